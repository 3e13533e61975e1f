"""The letters, the draw of icons and the statistics of benchmarks/fine_tune.py."""

import numpy as np
import pytest
from scipy.stats import sem

from benchmarks.fine_tune import draw_icons, render
from benchmarks.letters import LETTERS, draw_letter, own_fonts


def letter(seed):
    return draw_letter(np.random.default_rng(seed), "R", own_fonts())


def test_letter_is_a_function_of_the_seed():
    np.testing.assert_array_equal(letter(3), letter(3))
    assert letter(3).shape == (64, 64, 3)
    assert letter(3).dtype == np.uint8
    assert np.any(letter(3) != letter(4))


def test_every_font_draws_each_letter_differently():
    for font in own_fonts():
        drawn = {
            draw_letter(np.random.default_rng(0), each, [font]).tobytes()
            for each in LETTERS
        }
        assert len(drawn) == len(LETTERS), font.name


@pytest.fixture
def icons(tmp_path):
    """Two classes with 20 icons each, and one test icon."""
    for name in ("mail", "star"):
        (tmp_path / "icons/train" / name).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "icons/train" / name / f"{number}.png").touch()
    (tmp_path / "icons/test/mail").mkdir(parents=True)
    (tmp_path / "icons/test/mail/20.png").touch()
    return tmp_path / "icons"


def drawn(icons, out, seed):
    """The files by split and class."""
    draw_icons(icons, out, seed)
    return {
        (split, name): {path.name for path in (out / split / name).iterdir()}
        for split in ("train", "val")
        for name in ("mail", "star")
    }


def test_icons_of_training_and_validation_differ(icons, tmp_path):
    files = drawn(icons, tmp_path / "out", 0)
    for name in ("mail", "star"):
        train, validation = files["train", name], files["val", name]
        assert (len(train), len(validation)) == (10, 5)
        assert not train & validation
    assert [path.name for path in (tmp_path / "out/test").rglob("*.png")] == ["20.png"]


def test_icons_depend_on_the_seed_alone(icons, tmp_path):
    first = drawn(icons, tmp_path / "a", 0)
    assert drawn(icons, tmp_path / "b", 0) == first
    assert drawn(icons, tmp_path / "c", 1) != first


def test_gain_is_that_of_pairs_with_scipys_standard_error():
    zero, letters = [0.5, 0.6, 0.55], [0.7, 0.75, 0.8]
    runs = [
        {
            "from zero": {"validation": 0.5, "test": less},
            "from letters": {"validation": 0.5, "test": more},
        }
        for less, more in zip(zero, letters, strict=True)
    ]
    error = sem(np.subtract(letters, zero))
    last = render({"runs": runs}).splitlines()[-1]
    assert f"| 0.200, standard error {error:.3f} | 0.150 - 0.250 |" in last
