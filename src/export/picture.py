"""Any picture as a network's input, and what had to be done to it."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

DARK, BRIGHT = 64, 191  # of a border: below and above, its polarity is plain
WIDE = 257  # 16 bits to 8: 65535 becomes 255


class Input(NamedTuple):
    """What a network takes, and how far that is from the picture."""

    image: np.ndarray  # uint8 [height, width, channels]
    changes: list[str]  # each a few words; empty: the picture as it was


def to_input(
    picture: Image.Image, shape: tuple[int, int, int], background: float
) -> Input:
    """Brings a picture to the shape and polarity of a network's training images.

    Args:
        picture: of any size, mode and orientation.
        shape: height, width and channels of the input; 1 channel is grey, 3 are RGB.
        background: mean brightness around the things in the training images, 0 to 255.
    """
    height, width, channels = shape
    changes: list[str] = []
    turned = ImageOps.exif_transpose(picture)
    if picture.getexif().get(0x0112, 1) != 1:
        changes.append("turned as its camera says")
    plain = flat(turned, changes)
    if channels == 1:
        grey = plain.convert("L")
        if plain.mode != "L" and not same(plain, grey):
            changes.append("made grey")
        edge = border(grey)
        if (background < DARK and edge > BRIGHT) or (
            background > BRIGHT and edge < DARK
        ):
            grey = ImageOps.invert(grey)
            changes.append("inverted: the network knows the opposite background")
        ready = grey
    else:
        ready = plain.convert("RGB")
    if ready.size != (width, height):
        was = f"{ready.width} x {ready.height}"
        ready = fitted(ready, width, height)
        changes.append(f"resized from {was} to {width} x {height} pixels")
    return Input(np.asarray(ready, np.uint8).reshape(shape), changes)


def flat(picture: Image.Image, changes: list[str]) -> Image.Image:
    """8 bits a channel, nothing transparent."""
    if picture.mode.startswith("I"):
        numbers = np.asarray(picture).astype(np.int64)
        changes.append("16 bits made 8")
        return Image.fromarray((numbers.clip(0, 65535) // WIDE).astype(np.uint8))
    if "A" in picture.mode or "transparency" in picture.info:
        solid = picture.convert("RGBA")
        drawn = np.asarray(solid)[np.asarray(solid)[:, :, 3] > 0][:, :3]
        # What is drawn on nothing wants paper that it stands out from.
        paper = "white" if drawn.size == 0 or drawn.mean() < 128 else "black"
        changes.append(f"laid on {paper}")
        under = Image.new("RGBA", solid.size, paper)
        return Image.alpha_composite(under, solid).convert("RGB")
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")


def same(picture: Image.Image, grey: Image.Image) -> bool:
    """Whether a picture of colours is grey throughout."""
    return np.array_equal(np.asarray(picture), np.asarray(grey.convert("RGB")))


def border(picture: Image.Image) -> float:
    """The mean brightness of the outermost pixels, 0 to 255."""
    pixels = np.asarray(picture.convert("L"))
    edges = pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]
    return float(np.concatenate(edges).mean())


def fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The whole picture at this size: proportions kept, the rest like its border."""
    scale = min(width / picture.width, height / picture.height)
    size = (
        max(1, round(picture.width * scale)),
        max(1, round(picture.height * scale)),
    )
    small = picture.resize(size, Image.Resampling.BILINEAR)
    level = round(border(picture))
    fill = level if picture.mode == "L" else (level, level, level)
    paper = Image.new(picture.mode, (width, height), fill)
    paper.paste(small, ((width - size[0]) // 2, (height - size[1]) // 2))
    return paper
