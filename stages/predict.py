"""Says what is on pictures, with an exported network.

python -m stages.predict PICTURE... [--model FILE] [--json]
"""

from src.runtime.stage import run_command


def main() -> None:
    """Prints each picture's most likely classes; what was done to it goes to stderr."""
    import json
    import sys

    from src.errors import escape_unprintable
    from src.export.classify import answers, line, parse, read_inputs
    from src.export.load import load_exported

    asked = parse(sys.argv[1:])
    exported = load_exported(asked.model)
    inputs = read_inputs(asked.pictures, exported.manifest)
    said = answers(exported, inputs)
    for each in said:
        if each["changes"]:
            changes = "; ".join(each["changes"])
            note = escape_unprintable(f"predict: {each['picture']}: {changes}")
            print(note, file=sys.stderr)  # noqa: T201
    if asked.json:
        print(json.dumps(said, indent=2))  # noqa: T201
    else:
        print("\n".join(map(line, said)))  # noqa: T201


if __name__ == "__main__":
    run_command("predict", main)
