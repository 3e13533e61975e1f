"""Classifies pictures with an exported network.

python -m stages.predict PICTURE... [--model FILE] [--json]
"""

from src.runtime.stage import run_command


def main() -> None:
    """Prints each picture's top classes; notes and errors go to stderr.

    Raises:
        DataError: a picture cannot be read; the others have their answers.
    """
    import json
    import sys

    from src.export.classify import (
        answer_line,
        classify_pictures,
        find_pictures,
        parse_arguments,
        refuse_pictures,
    )
    from src.export.load import load_exported
    from src.runtime.stage import print_error

    arguments = parse_arguments(sys.argv[1:])
    exported = load_exported(arguments.model)
    found = find_pictures(arguments.pictures)
    if found.passed_over:
        reason = "passed over, because hidden, links or no pictures by name"
        print_error("predict", f"files {reason}: {found.passed_over}")
    answers, wrong = [], list(found.wrong)
    for part in classify_pictures(exported, found.pictures):
        wrong += part.wrong
        for answer in part.answers:
            if answer["changes"]:
                changes = "; ".join(answer["changes"])
                print_error("predict", f"{answer['picture']}: {changes}")
            if arguments.json:
                answers.append(answer)
            else:
                print(answer_line(answer))  # noqa: T201
    if arguments.json:
        print(json.dumps(answers, indent=2))  # noqa: T201
    refuse_pictures(wrong)


if __name__ == "__main__":
    run_command("predict", main)
