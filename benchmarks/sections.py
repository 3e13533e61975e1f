"""Rewrites the tables of measurements in Markdown files."""

import re
from collections.abc import Sequence
from pathlib import Path

README = Path(__file__).parent / "README.md"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def replace_section(name: str, text: str, file: Path = README) -> None:
    """Replaces the text between `<!-- name -->` and `<!-- end name -->`."""
    pattern = rf"(?<=<!-- {name} -->\n).*?(?=<!-- end {name} -->)"
    changed, count = re.subn(
        pattern, lambda _: f"{text}\n", file.read_text(), flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"{file}: expected one section {name}, found {count}.")
    file.write_text(changed)
