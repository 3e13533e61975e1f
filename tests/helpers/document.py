"""`make docs`: writes the parameter descriptions of src/config where people read them.

These are the comments in params.yaml and docs/reference/parameters.md. A test fails if
either is out of date.
"""

import re
import textwrap
from typing import Any

import yaml

from src.config.params import Params
from tests.helpers.imports import ROOT

PARAMS = ROOT / "params.yaml"
PAGE = ROOT / "docs/reference/parameters.md"
HEADING = re.compile(r"# ---- (.*?)(?: \(.*\))? ----$")
INTRODUCTION = """\
# Parameters

`make docs` writes this page from [src/config/](../../src/config/),
[params.yaml](../../params.yaml) and [dvc.yaml](../../dvc.yaml). Do not edit it.

Every parameter has its only value in `params.yaml`; there are no defaults in code. An
empty value is `null`. All parameters are checked before JAX is imported: a mistake is
answered in a fraction of a second with exit code 2.
"""


def description(key: str) -> str:
    """The description of a parameter.

    Raises:
        ValueError: it has none.
    """
    text = Params.model_fields[key].description
    if not text:
        raise ValueError(f"{key}: expected a description in src/config, found none.")
    return text


def with_comments(text: str) -> str:
    """params.yaml with the description above each key; headings and values stay."""
    lines: list[str] = []
    for line in text.splitlines():
        below = any(HEADING.match(old) for old in lines)
        if below and line.startswith("# ") and not HEADING.match(line):
            continue
        key = re.match(r"(\w+):", line)
        if key:
            lines += [f"# {part}" for part in wrapped(description(key[1]))]
        elif HEADING.match(line) and lines[-1]:
            lines.append("")
        lines.append(line)
    return "\n".join(lines) + "\n"


def wrapped(text: str) -> list[str]:
    """The text in lines that do not break within an interval such as (0, 1)."""
    joined = re.sub(r"([\[(]\S+), (\S+[\])])", "\\1,\u00a0\\2", text)
    return [line.replace("\u00a0", " ") for line in textwrap.wrap(joined, 86)]


def parameters_page(text: str) -> str:
    """docs/reference/parameters.md: a table per heading of params.yaml."""
    values, lines = yaml.safe_load(text), [INTRODUCTION]
    for line in text.splitlines():
        heading, key = HEADING.match(line), re.match(r"(\w+):", line)
        if heading:
            columns = "| key | value | read by | meaning |", "|---|---|---|---|"
            lines += [f"\n## {heading[1]}\n", *columns]
        elif key:
            cells = (
                f"`{key[1]}`",
                displayed(values[key[1]]),
                ", ".join(readers(key[1])),
                description(key[1]).replace("|", "\\|"),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def displayed(value: Any) -> str:
    """A value as a person writes it in params.yaml."""
    if value is None:
        return "empty"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def readers(key: str) -> list[str]:
    """The stages whose `params` name a key."""
    files = (ROOT / "dvc.yaml", ROOT / "extra/dvc.yaml")
    stages = [yaml.safe_load(file.read_text())["stages"].items() for file in files]
    return [
        name
        for group in stages
        for name, stage in group
        if key in stage.get("params", [])
    ]


def main() -> None:
    """Rewrites both files."""
    text = with_comments(PARAMS.read_text())
    PARAMS.write_text(text)
    PAGE.write_text(parameters_page(text))


if __name__ == "__main__":
    main()
