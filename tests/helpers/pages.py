"""Reads the pages of the documentation: headings, code, commands."""

import re
import shlex
from functools import cache
from pathlib import Path

from tests.helpers.imports import ROOT

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "data/raw/README.md",
        ROOT / "benchmarks/README.md",
    ]
)
PAGE_NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def without_fences(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.*)$", without_fences(page.read_text()), re.M):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = sum(re.sub(r"-\d+$", "", other) == slug for other in found)
        found.add(f"{slug}-{count}" if count else slug)
    return found


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    pattern = rf"^```{language}\n(.*?)^```$"
    return re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL)


@cache
def code(page: Path) -> list[str]:
    """Everything in code style: spans, fenced shell blocks, indented lines."""
    text = page.read_text().replace("\\\n", " ")
    shell = re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    text = without_fences(text)
    indented = re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE)
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    return [*spans, *indented, *"".join(shell).splitlines()]


def shell_words(line: str) -> list[str]:
    """The words of a command; none if its quotes do not match."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []


def commands(page: Path, program: str) -> list[list[str]]:
    """The arguments of each call of a program."""
    found = []
    for line in code(page):
        for part in re.split(r"&&|;|\bthen\b", line):
            words = shell_words(part.strip())
            while words and re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            if words[:1] == [program]:
                found.append(words[1:])
    return found
