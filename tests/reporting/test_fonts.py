"""Class names in letters that the pictures' own font lacks."""

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from src.reporting.fonts import InstalledFont, choose_fonts, fonts_for
from src.reporting.plots import draw_confusion

CONFUSION = np.array([[3, 1], [0, 2]])
CAT, DOG = "\u732b", "\u72ac"


def write_font(path, letters, family, style="Regular"):
    """Writes a font in which each letter is a box of another height."""
    names = [".notdef", *(f"u{ord(letter):04X}" for letter in letters)]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(dict(zip(map(ord, letters), names[1:], strict=True)))
    glyphs = {}
    for code, name in zip((0, *map(ord, letters)), names, strict=True):
        pen = TTGlyphPen(None)
        height = 100 + code % 701
        pen.moveTo((0, 0))
        for corner in ((0, height), (800, height), (800, 0)):
            pen.lineTo(corner)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(names, (900, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": family, "styleName": style})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Makes the fonts of these files the only ones of the system."""

    def installed(*files):
        monkeypatch.setattr("src.reporting.fonts.findSystemFonts", lambda: list(files))

    installed()
    return installed


def draw(names):
    """A picture with these names, and the warning."""
    with fonts_for(names) as warning:
        return draw_confusion(CONFUSION, names), warning


def test_letters_of_an_installed_font_are_drawn(install, tmp_path):
    boxes, _ = draw([CAT, DOG])
    assert draw([DOG, CAT])[0] == boxes  # one box is like another
    install(write_font(tmp_path / "new.ttf", CAT + DOG, "Made Up Drawn"))
    (picture, warning), (swapped, _) = draw([CAT, DOG]), draw([DOG, CAT])
    assert warning is None
    assert len({boxes, picture, swapped}) == 3
    assert draw([CAT, DOG])[0] == picture


def test_names_that_the_own_font_has_keep_their_bytes(install, tmp_path):
    install(write_font(tmp_path / "new.ttf", f"abc{CAT}", "Made Up Latin"))
    names = ["cab \u00e9", "\u0628\u0627\u0628\u0435"]  # Latin, Arabic, Cyrillic
    picture, warning = draw(names)
    assert warning is None
    assert picture == draw_confusion(CONFUSION, names)


def test_latin_names_keep_their_bytes_after_others_were_drawn(install, tmp_path):
    before = draw(["cat", "dog"])
    install(write_font(tmp_path / "new.ttf", f"catdog{CAT}", "Made Up Both"))
    draw([CAT, "dog"])
    assert draw(["cat", "dog"]) == before


def test_letters_without_a_font_are_one_warning_that_names_the_package(install):
    _, warning = draw([CAT, "\ud55c\uad6d"])
    assert warning == (
        "no installed font has 3 letters of the names (\u732b \uad6d \ud55c): the "
        "pictures show boxes. Install a font, on Debian fonts-noto-cjk, and run: dvc "
        "repro --force --single-item evaluate"
    )


@pytest.mark.parametrize(
    ("letter", "package"),
    [
        (CAT, "fonts-noto-cjk"),
        ("\u3042", "fonts-noto-cjk"),
        ("\u30a2", "fonts-noto-cjk"),
        ("\uff21", "fonts-noto-cjk"),
        ("\u0915", "fonts-noto-core"),
        ("\u0e01", "fonts-noto-core"),
        ("\U0001f408", "fonts-symbola"),
    ],
)
def test_package_follows_from_the_letter(install, letter, package):
    assert f"on Debian {package}, and" in draw(["cat", letter])[1]


def test_warning_shows_five_letters_of_many(install):
    with fonts_for(
        ["".join(map(chr, range(0x4E00, 0x4E40))), "\u0915\u0916"]
    ) as warning:
        letters = "\u0915 \u0916 \u4e00 \u4e01 \u4e02"
    assert f"has 66 letters of the names ({letters}, ...)" in warning
    assert "on Debian fonts-noto-cjk fonts-noto-core, and" in warning


def test_letters_of_two_scripts_come_from_two_fonts(install, tmp_path):
    install(
        write_font(tmp_path / "one.ttf", CAT, "Made Up One"),
        write_font(tmp_path / "two.ttf", "\ud55c", "Made Up Two"),
    )
    (picture, warning), (swapped, _) = draw([CAT, "\ud55c"]), draw(["\ud55c", CAT])
    assert warning is None
    assert picture != swapped


def test_damaged_font_is_passed_over(install, tmp_path):
    damaged = tmp_path / "a.ttf"
    damaged.write_bytes(b"\0\1\0\0 cut")
    font = write_font(tmp_path / "b.ttf", CAT, "Made Up Whole")
    install(str(damaged), font, str(tmp_path / "missing.ttf"))
    assert draw([CAT, "cat"])[1] is None


def test_choice_does_not_depend_on_the_order_in_which_fonts_are_found(
    install, tmp_path
):
    files = [
        write_font(tmp_path / "a.ttf", CAT, "Made Up Bold", "Bold"),
        write_font(tmp_path / "b.ttf", CAT, "Made Up B"),
        write_font(tmp_path / "c.ttf", CAT, "Made Up C"),
    ]
    install(*files)
    picture = draw([CAT, "cat"])
    install(*reversed(files))
    assert draw([CAT, "cat"]) == picture


def test_font_with_most_of_the_letters_comes_first():
    fonts = [
        InstalledFont("1", "one", frozenset("ab")),
        InstalledFont("2", "two", frozenset("bcd")),
        InstalledFont("3", "three", frozenset("bcd")),
    ]
    assert [font.path for font in choose_fonts(set("abcde"), fonts)] == ["2", "1"]
    assert choose_fonts(set("xyz"), fonts) == []
