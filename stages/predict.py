"""Classifies pictures with an exported network.

python -m stages.predict PICTURE... [--model FILE] [--json]
"""

from src.runtime.stage import run_command


def main() -> None:
    """Prints each picture's top classes; notes on its conversion go to stderr."""
    import json
    import sys

    from src.errors import escape_unprintable
    from src.export.classify import (
        answer_line,
        classify_pictures,
        parse_arguments,
        read_inputs,
    )
    from src.export.load import load_exported

    arguments = parse_arguments(sys.argv[1:])
    exported = load_exported(arguments.model)
    inputs = read_inputs(arguments.pictures, exported.manifest)
    answers = classify_pictures(exported, inputs)
    for each in answers:
        if each["changes"]:
            changes = "; ".join(each["changes"])
            note = escape_unprintable(f"predict: {each['picture']}: {changes}")
            print(note, file=sys.stderr)  # noqa: T201
    if arguments.json:
        print(json.dumps(answers, indent=2))  # noqa: T201
    else:
        print("\n".join(map(answer_line, answers)))  # noqa: T201


if __name__ == "__main__":
    run_command("predict", main)
