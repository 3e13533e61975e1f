"""What prepare and predict ask about a picture, besides its pixels.

An exported network does without it, so it is not in `src/data/pictures.py`.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from src.data.pictures import SIDEWAYS, TURNS, open_picture, orientation

GREY_TOLERANCE = 8  # of 255; JPEG noise moves the channels of a grey picture less apart


def is_colour(pixels: np.ndarray) -> bool:
    """Whether any pixel's channels differ by more than `GREY_TOLERANCE`."""
    spread = pixels.max(-1).astype(np.int16) - pixels.min(-1)
    return bool((spread > GREY_TOLERANCE).any())


def read_upright_size(source: Path | bytes) -> tuple[int, int]:
    """Width and height of a picture as viewers show it; decodes nothing.

    Raises:
        PictureError: the file is no picture, or too large.
    """
    with open_picture(source) as picture:
        return upright_size(picture)


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """Width and height of an opened picture that is not decoded yet."""
    # Pillow gives the upright size of TIFF pictures.
    turned = picture.format != "TIFF" and orientation(picture) >= SIDEWAYS
    return picture.size[::-1] if turned else picture.size


def upright(picture: Image.Image) -> Image.Image:
    """Decodes a picture, turned by its EXIF orientation."""
    picture.load()  # Pillow turns TIFF pictures here, and they lose the tag
    turn = TURNS.get(orientation(picture))
    return picture if turn is None else picture.transpose(turn)
