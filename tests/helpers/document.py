"""`make docs`: writes what the schema says of each parameter where people read it.

The comments in params.yaml and the README's table are `description`s of `Params`; a
test fails where they differ.
"""

import re
import textwrap

from src.config.params import Params
from tests.helpers.imports import ROOT

TABLE = re.compile(r"\| key \| meaning \|\n\|---\|---\|\n(\|.*\n)*")


def description(key: str) -> str:
    """What the schema says of a parameter."""
    text = Params.model_fields[key].description
    assert text, f"{key}: expected a description in src/config/fields.py, found none."
    return text


def commented(text: str) -> str:
    """params.yaml with the description above each key; headings and values stay."""
    lines = []
    for line in text.splitlines():
        below = any(old.startswith("# ----") for old in lines)
        if below and re.match(r"# (?!----)", line):
            continue
        found = re.match(r"(\w+):", line)
        if found:
            lines += [f"# {part}" for part in wrapped(description(found[1]))]
        elif line.startswith("# ----") and lines[-1]:
            lines.append("")
        lines.append(line)
    return "\n".join(lines) + "\n"


def wrapped(text: str) -> list[str]:
    """The text in lines that break within no interval, such as (0, 1)."""
    joined = re.sub(r"([\[(]\S+), (\S+[\])])", "\\1,\u00a0\\2", text)
    return [line.replace("\u00a0", " ") for line in textwrap.wrap(joined, 86)]


def tabulated(text: str) -> str:
    """The README with the table of all parameters."""
    rows = [f"| `{key}` | {description(key)} |" for key in Params.model_fields]
    table = "\n".join(["| key | meaning |", "|---|---|", *rows]) + "\n"
    found, count = TABLE.subn(lambda _: table, text)
    assert count == 1, f"README.md: expected one table of parameters, found {count}."
    return found


def main() -> None:
    """Rewrites both files."""
    for name, rewritten in (("params.yaml", commented), ("README.md", tabulated)):
        path = ROOT / name
        path.write_text(rewritten(path.read_text()))


if __name__ == "__main__":
    main()
