"""Adapts a picture to a network whose training data were not picture files.

Their size, polarity and background are guessed from the picture, and the changes are
listed. A network of picture files has a `PicturePolicy` instead, which guesses nothing.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from src.data.picture_facts import upright
from src.data.pictures import orientation, without_transparency

DARK, BRIGHT = 64, 191  # a border below DARK is dark, above BRIGHT it is bright
MIN_EXTENT = 0.7  # an object below this fraction of the larger side is too small


class Input(NamedTuple):
    """An input of the network, and how it differs from the picture."""

    image: np.ndarray  # uint8 [height, width, channels]
    changes: list[str]  # short descriptions; empty if the picture was used unchanged


def to_input(
    picture: Image.Image, shape: tuple[int, int, int], background: float
) -> Input:
    """Converts a picture to the shape and polarity of the training images.

    Args:
        picture: of any size, mode and orientation.
        shape: height, width and channels of the input; 1 channel is grey, 3 are RGB.
        background: mean background of the training images, in [0, 255].

    Raises:
        PictureError: the pixels have no scale that is known.
    """
    height, width, channels = shape
    changes: list[str] = []
    original_size = picture.size
    if picture.format in (
        "JPEG",
        "MPO",
    ):  # decode a large photograph at a smaller scale
        picture.draft(picture.mode, (4 * width, 4 * height))
    if orientation(picture) != 1:
        changes.append("rotated by its EXIF orientation")
    opaque = as_opaque_8_bit(upright(picture), changes)
    if channels == 1:
        grey = opaque.convert("L")
        if opaque.mode != "L" and not is_grey(opaque, grey):
            changes.append("converted to grey")
        (edge,) = border(grey)
        if (background < DARK and edge > BRIGHT) or (
            background > BRIGHT and edge < DARK
        ):
            grey = ImageOps.invert(grey)
            changes.append("inverted: training images have the opposite background")
        if original_size != (width, height):
            changes += input_warnings(grey, background)
        ready = grey
    else:
        ready = opaque.convert("RGB")
    if ready.size != (width, height):
        ready = padded_to_fit(ready, width, height)
        before = f"{original_size[0]} x {original_size[1]}"
        changes.append(f"resized from {before} to {width} x {height} pixels")
    return Input(np.asarray(ready, np.uint8).reshape(shape), changes)


def as_opaque_8_bit(picture: Image.Image, changes: list[str]) -> Image.Image:
    """Converts to mode L or RGB with 8 bits; appends to `changes`.

    Raises:
        PictureError: the pixels have no scale that is known.
    """
    if picture.mode.startswith("I;16"):
        changes.append("converted from 16 to 8 bits")
        numbers = np.asarray(picture)
        if numbers.max(initial=0) < 256:  # some programs store 8 bits in 16
            return Image.fromarray(numbers.astype(np.uint8))
    elif picture.has_transparency_data:
        return fill_transparent(picture.convert("RGBA"), changes)
    return without_transparency(picture, "white")


def input_warnings(grey: Image.Image, background: float) -> list[str]:
    """Possible differences from the training images that were not corrected."""
    (edge,) = border(grey)
    found = []
    if not DARK <= background <= BRIGHT and DARK <= edge <= BRIGHT:
        found.append("not inverted: its border is neither dark nor bright")
    ink = np.abs(np.asarray(grey, np.int64) - round(edge)) > DARK
    sides = [np.flatnonzero(ink.any(axis)) for axis in (0, 1)]
    spans = [int(np.ptp(side)) + 1 if side.size else 0 for side in sides]
    if max(spans) < MIN_EXTENT * max(grey.size):
        found.append("the object is small: crop a square around it")
    return found


def fill_transparent(picture: Image.Image, changes: list[str]) -> Image.Image:
    """Fills transparent areas with a contrasting colour; appends to `changes`."""
    pixels = np.asarray(picture)
    opacity = pixels[:, :, 3]
    if opacity.min() == 255:
        return picture.convert("RGB")
    drawn = pixels[opacity > 0][:, :3]
    fill = "white" if drawn.size == 0 or drawn.mean() < 128 else "black"
    changes.append(f"transparent areas filled with {fill}")
    backdrop = Image.new("RGBA", picture.size, fill)
    return Image.alpha_composite(backdrop, picture).convert("RGB")


def is_grey(picture: Image.Image, grey: Image.Image) -> bool:
    """Whether a colour picture equals its grey version."""
    return np.array_equal(np.asarray(picture), np.asarray(grey.convert("RGB")))


def border(picture: Image.Image) -> tuple[float, ...]:
    """The mean of the outermost pixels of each channel, in [0, 255]."""
    pixels = np.asarray(picture).reshape(picture.height, picture.width, -1)
    edges = pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]
    return tuple(np.concatenate(edges).mean(0).tolist())


def padded_to_fit(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Resizes, keeping proportions; pads with the mean colour of the border."""
    scale = min(width / picture.width, height / picture.height)
    size = (
        max(1, round(picture.width * scale)),
        max(1, round(picture.height * scale)),
    )
    small = resized(picture, *size)
    levels = tuple(map(round, border(picture)))
    fill = levels if len(levels) > 1 else levels[0]
    padded = Image.new(picture.mode, (width, height), fill)
    padded.paste(small, ((width - size[0]) // 2, (height - size[1]) // 2))
    return padded


def resized(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Area averaging with fractional pixels, as in demo.html."""
    pixels = np.asarray(picture, np.float32)
    across, down = (
        area_weights(picture.width, width),
        area_weights(picture.height, height),
    )
    means = np.einsum("yh,hw...,xw->yx...", down, pixels, across, optimize=True)
    return Image.fromarray(means.round().astype(np.uint8))


def area_weights(count: int, parts: int) -> np.ndarray:
    """Weights of `count` pixels in each of `parts` equal intervals.

    Returns:
        Float32 `[parts, count]`; rows sum to 1.
    """
    length = count / parts
    start, index = np.arange(parts)[:, None] * length, np.arange(count)
    overlap = np.minimum(start + length, index + 1) - np.maximum(start, index)
    return (overlap.clip(0) / length).astype(np.float32)
