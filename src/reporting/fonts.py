"""Fonts for letters that the pictures' own font lacks, such as Chinese ones.

That font, DejaVu Sans, comes with matplotlib. It has Latin, Greek, Cyrillic, Arabic and
Hebrew letters. Other letters are drawn with fonts of the system.
"""

import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.font_manager import findfont, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font

DEFAULT_FAMILY = "DejaVu Sans"
SHOWN_LETTERS = 5  # in the warning
# Debian's packages, by the first word of a letter's name in Unicode.
PACKAGES = dict.fromkeys(
    ("CJK", "HANGUL", "HIRAGANA", "KATAKANA", "BOPOMOFO", "FULLWIDTH", "IDEOGRAPHIC"),
    "fonts-noto-cjk",
)
SYMBOL_PACKAGE, OTHER_PACKAGE = "fonts-symbola", "fonts-noto-core"


class InstalledFont(NamedTuple):
    """A font of the system."""

    path: str
    family: str
    letters: frozenset[str]


@contextmanager
def fonts_for(texts: Iterable[str]) -> Iterator[str | None]:
    """Draws the letters of `texts` with installed fonts where the default lacks them.

    Yields a warning if no font has a letter; such a letter is drawn as a box. It
    replaces matplotlib's own warnings, one a letter. Where the default font has all
    letters, nothing changes.
    """
    missing = set("".join(texts)) - letters_of(FT2Font(findfont(DEFAULT_FAMILY)))
    missing = {letter for letter in missing if letter.isprintable()}
    if not missing:
        yield None
        return
    fonts = choose_fonts(missing, installed_fonts())
    known = {entry.fname for entry in fontManager.ttflist}
    for font in fonts:
        if font.path not in known:  # installed after matplotlib listed the fonts
            fontManager.addfont(font.path)
    families = [DEFAULT_FAMILY, *(font.family for font in fonts)]
    missing -= {letter for font in fonts for letter in font.letters}
    with mpl.rc_context({"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        yield missing_warning(missing) if missing else None


def choose_fonts(
    missing: set[str], fonts: Iterable[InstalledFont]
) -> list[InstalledFont]:
    """The fonts that have the letters, the one with the most first.

    Of fonts with equally many, the first in `fonts`. Letters that none has stay.
    """
    candidates, chosen, rest = list(fonts), [], set(missing)
    while rest and candidates:
        best = max(candidates, key=lambda font: len(rest & font.letters))
        if not rest & best.letters:
            break
        chosen.append(best)
        rest -= best.letters
    return chosen


def installed_fonts() -> list[InstalledFont]:
    """The scalable fonts of the system: regular ones first, then by path."""
    fonts = []
    for path in findSystemFonts():
        try:
            font = FT2Font(path)
        except (OSError, RuntimeError):  # damaged, or of a kind that FreeType lacks
            continue
        if font.scalable:
            found = InstalledFont(path, font.family_name, letters_of(font))
            fonts.append((font.style_name != "Regular", path, found))
    return [font for *_, font in sorted(fonts)]


def letters_of(font: FT2Font) -> frozenset[str]:
    """The letters that a font can draw."""
    return frozenset(map(chr, font.get_charmap()))


def missing_warning(letters: set[str]) -> str:
    """Says which letters no font has, and what to install."""
    some = " ".join(sorted(letters)[:SHOWN_LETTERS])
    more = ", ..." if len(letters) > SHOWN_LETTERS else ""
    packages = " ".join(sorted(set(map(package_of, letters))))
    return (
        f"no installed font has {len(letters)} letters of the names ({some}{more}): "
        f"the pictures show boxes. Install a font, on Debian {packages}, and run: "
        "dvc repro --force --single-item evaluate"
    )


def package_of(letter: str) -> str:
    """Debian's package with a font that has a letter."""
    if unicodedata.category(letter).startswith("S"):
        return SYMBOL_PACKAGE
    word = unicodedata.name(letter, "").replace("-", " ").split(" ")[0]
    return PACKAGES.get(word, OTHER_PACKAGE)
