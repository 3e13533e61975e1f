"""Any picture as a network's input, and what had to be done to it."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

DARK, BRIGHT = 64, 191  # of a border: below and above, its polarity is plain
FILLED = 0.7  # of a picture's larger side: less is a margin that training lacks
WIDE = 257  # 16 bits to 8: 65535 becomes 255
ORIENTATION, TURNED = 0x0112, range(2, 9)  # EXIF's tag, and what it says of turning


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
    was = picture.size
    if picture.format == "JPEG":  # a photograph need not be unpacked in full
        picture.draft(picture.mode, (4 * width, 4 * height))
    if picture.getexif().get(ORIENTATION) in TURNED:
        changes.append("turned as its camera says")
    turned = ImageOps.exif_transpose(picture)
    plain = flat(turned, changes)
    if channels == 1:
        grey = plain.convert("L")
        if plain.mode != "L" and not same(plain, grey):
            changes.append("made grey")
        (edge,) = border(grey)
        if (background < DARK and edge > BRIGHT) or (
            background > BRIGHT and edge < DARK
        ):
            grey = ImageOps.invert(grey)
            changes.append("inverted: the network knows the opposite background")
        if was != (width, height):
            changes += doubts(grey, background)
        ready = grey
    else:
        ready = plain.convert("RGB")
    if ready.size != (width, height):
        ready = fitted(ready, width, height)
        before = f"{was[0]} x {was[1]}"
        changes.append(f"resized from {before} to {width} x {height} pixels")
    return Input(np.asarray(ready, np.uint8).reshape(shape), changes)


def flat(picture: Image.Image, changes: list[str]) -> Image.Image:
    """8 bits a channel, nothing transparent."""
    if picture.mode.startswith("I"):
        numbers = np.asarray(picture).astype(np.int64).clip(0, 65535)
        # Some programs store 8 bits in 16 as they are.
        narrow = numbers if numbers.max(initial=0) < 256 else numbers // WIDE
        changes.append("16 bits made 8")
        return Image.fromarray(narrow.astype(np.uint8))
    if "A" in picture.mode or "transparency" in picture.info:
        return on_paper(picture.convert("RGBA"), changes)
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")


def doubts(grey: Image.Image, background: float) -> list[str]:
    """Why a picture is perhaps not like the training images, for its owner to know."""
    (edge,) = border(grey)
    said = []
    if not DARK <= background <= BRIGHT and DARK <= edge <= BRIGHT:
        said.append("its border is neither dark nor bright: not inverted")
    ink = np.abs(np.asarray(grey, np.int64) - round(edge)) > DARK
    sides = [np.flatnonzero(ink.any(axis)) for axis in (0, 1)]
    spans = [int(np.ptp(side)) + 1 if side.size else 0 for side in sides]
    if max(spans) < FILLED * max(grey.size):
        said.append("little of it is not background: cut a square around the thing")
    return said


def on_paper(picture: Image.Image, changes: list[str]) -> Image.Image:
    """What is drawn on nothing, on paper that it stands out from."""
    pixels = np.asarray(picture)
    opacity = pixels[:, :, 3]
    if opacity.min() == 255:
        return picture.convert("RGB")
    drawn = pixels[opacity > 0][:, :3]
    paper = "white" if drawn.size == 0 or drawn.mean() < 128 else "black"
    changes.append(f"laid on {paper}")
    under = Image.new("RGBA", picture.size, paper)
    return Image.alpha_composite(under, picture).convert("RGB")


def same(picture: Image.Image, grey: Image.Image) -> bool:
    """Whether a picture of colours is grey throughout."""
    return np.array_equal(np.asarray(picture), np.asarray(grey.convert("RGB")))


def border(picture: Image.Image) -> tuple[float, ...]:
    """The mean of the outermost pixels, 0 to 255, of each channel."""
    pixels = np.asarray(picture).reshape(picture.height, picture.width, -1)
    edges = pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]
    return tuple(np.concatenate(edges).mean(0).tolist())


def fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The whole picture at this size: proportions kept, the rest like its border."""
    scale = min(width / picture.width, height / picture.height)
    size = (
        max(1, round(picture.width * scale)),
        max(1, round(picture.height * scale)),
    )
    small = resized(picture, *size)
    levels = tuple(map(round, border(picture)))
    fill = levels if len(levels) > 1 else levels[0]
    paper = Image.new(picture.mode, (width, height), fill)
    paper.paste(small, ((width - size[0]) // 2, (height - size[1]) // 2))
    return paper


def resized(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Each pixel the mean of all that falls into it, in part too; as in demo.html."""
    pixels = np.asarray(picture, np.float32)
    across, down = shares(picture.width, width), shares(picture.height, height)
    means = np.einsum("yh,hw...,xw->yx...", down, pixels, across, optimize=True)
    return Image.fromarray(means.round().astype(np.uint8))


def shares(count: int, parts: int) -> np.ndarray:
    """Float32 `[parts, count]`: how much of each part comes from each of `count`."""
    length = count / parts
    start, index = np.arange(parts)[:, None] * length, np.arange(count)
    overlap = np.minimum(start + length, index + 1) - np.maximum(start, index)
    return (overlap.clip(0) / length).astype(np.float32)
