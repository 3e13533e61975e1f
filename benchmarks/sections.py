"""Rewrites the tables in README.md."""

import re
from collections.abc import Sequence
from pathlib import Path

README = Path(__file__).parent / "README.md"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def replace_section(name: str, text: str) -> None:
    """Replaces the text between `<!-- name -->` and `<!-- end name -->`."""
    pattern = rf"(?<=<!-- {name} -->\n).*?(?=<!-- end {name} -->)"
    changed, count = re.subn(
        pattern, lambda _: f"{text}\n", README.read_text(), flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"{README}: expected one section {name}, found {count}.")
    README.write_text(changed)
