"""Draws letters in many fonts and colours, for a network to start from.

`python -m benchmarks.letters OUT` writes OUT/letters.npz: 12,000 pictures of A to Z,
uint8 `[n, 64, 64, 3]`. The fonts are matplotlib's own, so no font need be installed.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SIDE = 64  # pixels of a picture
PICTURES, OF_TEST = 12_000, 600
SIDES = (16, 24, 32, 48, SIDE, SIDE)  # small ones are enlarged, as small icons are
WHITE = (255, 255, 255)

Colour = tuple[int, ...]


def own_fonts() -> list[Path]:
    """Matplotlib's fonts that have all letters: DejaVu and STIX."""
    folder = Path(mpl.get_data_path(), "fonts/ttf")
    names = "DejaVuSans", "DejaVuSerif", "STIXGeneral"
    found = [path for name in names for path in folder.glob(f"{name}*.ttf")]
    return sorted(path for path in found if "Display" not in path.name)


def draw_colour(rng: np.random.Generator) -> Colour:
    """Red, green and blue in [0, 255]."""
    return tuple(rng.integers(0, 256, 3).tolist())


def draw_letter(rng: np.random.Generator, letter: str, fonts: list[Path]) -> np.ndarray:
    """A letter on a plate or on white: uint8 `[SIDE, SIDE, 3]`.

    Font, size, place, angle, colours, outline and sharpness are random.
    """
    picture = Image.new("RGB", (SIDE, SIDE), WHITE)
    canvas = ImageDraw.Draw(picture)
    ink, paper = draw_colour(rng), WHITE
    if rng.random() < 0.5:
        paper = draw_colour(rng)
        near, far = rng.integers(-8, 10, 2), SIDE - rng.integers(-8, 10, 2)
        box = (*near.tolist(), *far.tolist())
        canvas.rounded_rectangle(box, int(rng.integers(0, 32)), fill=paper)
    while np.abs(np.subtract(ink, paper)).sum() < 200:  # too hard to read
        ink = draw_colour(rng)
    size = int(rng.integers(36, 84))
    canvas.text(
        tuple((SIDE / 2 + rng.uniform(-8, 8, 2)).tolist()),
        letter,
        ink,
        ImageFont.truetype(fonts[rng.integers(len(fonts))], size),
        anchor="mm",
        stroke_width=int(rng.integers(1, 4)) if rng.random() < 0.3 else 0,
        stroke_fill=draw_colour(rng),
    )
    angle, smooth = rng.uniform(-15, 15), Image.Resampling.BILINEAR
    turned = picture.rotate(angle, smooth, fillcolor=WHITE)
    side = SIDES[rng.integers(len(SIDES))]
    small = turned.resize((side, side), Image.Resampling.BOX)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def save_letters(folder: Path) -> None:
    """Writes the same pictures each time, in `dataset: npz`'s layout."""
    rng, fonts = np.random.default_rng(0), own_fonts()
    labels = np.arange(PICTURES) % len(LETTERS)
    images = np.stack([draw_letter(rng, LETTERS[label], fonts) for label in labels])
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "letters.npz",
        x_train=images[OF_TEST:],
        y_train=labels[OF_TEST:],
        x_test=images[:OF_TEST],
        y_test=labels[:OF_TEST],
    )


def main() -> None:
    """Draws the letters."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, help="the folder to write")
    save_letters(parser.parse_args().out)


if __name__ == "__main__":
    main()
