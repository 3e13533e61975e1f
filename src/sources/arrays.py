"""The rules by which arrays of other shapes and types become images.

A conversion that is unambiguous and loses nothing is done. Every other form is refused
with the line of numpy that converts it.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from src.data.examples import Examples, check_layout
from src.data.lazy_images import ImageWriter, LazyImages, piece_length
from src.errors import DataError
from src.storage.lazy_npz import LazyArray

Array = LazyArray | np.ndarray
# The words that name a split in files, folders and arrays.
SPLIT_OF = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


class Converted(NamedTuple):
    """Images in the form of `Examples`."""

    images: Array
    notes: list[str]  # the rules by which they were converted, a sentence each


def to_images(array: Array, count: int, where: str) -> Converted:
    """Converts to uint8 `[n, height, width, channels]`.

    An array that has this form already, or lacks the channels only, stays on disk. The
    others are read in pieces.

    Args:
        array: the images, in one of the forms below.
        count: the number of labels.
        where: the file, and perhaps the array, for messages.

    Raises:
        DataError: the form is ambiguous, or the conversion would lose something.
        StorageError: the disk is full.
    """
    shape, planar = find_image_layout(array.shape, where)
    layout = np.broadcast_to(np.uint8(), shape)
    check_layout(Examples(layout, np.zeros(count, np.int32)), where)
    notes = layout_notes(array.shape, shape)
    if array.dtype == np.uint8 and not planar:
        if isinstance(array, LazyArray):
            return Converted(replace(array, shape=shape), notes)
        return Converted(array.reshape(shape), notes)
    scale = find_scale(array, where)
    if scale != 1:
        notes.append(f"images are floats in [0, 1], and are multiplied by {scale}.")
    writer = ImageWriter(shape)
    for piece in read_pieces(array):
        pixels = piece.transpose(0, 2, 3, 1) if planar else piece
        pixels = pixels.reshape(-1, *shape[1:])
        writer.add(np.rint(pixels * scale) if scale != 1 else pixels)
    images = writer.images()
    return Converted(
        images.parts[0] if isinstance(images, LazyImages) else images, notes
    )


def find_image_layout(
    shape: tuple[int, ...], where: str
) -> tuple[tuple[int, ...], bool]:
    """The shape as `[n, height, width, channels]`, and whether channels come first.

    A last dimension of 1 or 3 is the channels. Otherwise a second dimension of 1 or 3
    is. Three dimensions are grey images.

    Raises:
        DataError: the shape is none of these.
    """
    if len(shape) == 3:
        return (*shape, 1), False
    if len(shape) == 4:
        count, first, height, last = shape
        if last in (1, 3):
            return shape, False
        if first in (1, 3):
            return (count, height, last, first), first == 3
        if 4 in (first, last):
            drop = "images[..., :3]" if last == 4 else "images[:, :3]"
            raise DataError(
                f"{where}: images: expected 1 or 3 channels, grey or RGB, found shape "
                f"{list(shape)}, with 4. To drop transparency: images = {drop}"
            )
        return shape, False
    raise DataError(
        f"{where}: images: expected [n, height, width] or [n, height, width, channels],"
        f" found shape {list(shape)}. Convert the array{reshape_advice(shape)}"
    )


def reshape_advice(shape: tuple[int, ...]) -> str:
    """How to give rows of pixels a shape; squares are proposed where they fit."""
    pixels = shape[1] if len(shape) == 2 else 0
    for channels, form in ((1, "-1, {0}, {0}"), (3, "-1, {0}, {0}, 3")):
        side = round((pixels / channels) ** 0.5)
        if pixels and side * side * channels == pixels:
            planar = f" (to -1, 3, {side}, {side} if all of red comes first)"
            line = form.format(side)
            return f"{planar * (channels == 3)}: images = images.reshape({line})"
    return ": images = images.reshape(-1, height, width, channels)"


def layout_notes(given: tuple[int, ...], shape: tuple[int, ...]) -> list[str]:
    """The rule of `find_image_layout` that found `shape`, unless `shape` was given."""
    sizes = ", ".join(map(str, given[1:]))
    if len(given) == 4 and given != shape:
        return [f"images [n, {sizes}] are read as [n, channels, height, width]."]
    if len(given) == 4 and given[1] in (1, 3) and given[1:] != (1, 1, 1):
        return [
            f"images [n, {sizes}] are read as [n, height, width, channels], because "
            f"the last dimension is {given[3]}."
        ]
    return []


def read_pieces(array: Array) -> Iterator[np.ndarray]:
    """Yields an array of any type in pieces."""
    rows = LazyImages([array]) if isinstance(array, LazyArray) else array
    size = max(piece_length(array.shape) // array.dtype.itemsize, 1)
    for start in range(0, len(array), size):
        yield rows[start : start + size]


def find_scale(array: Array, where: str) -> int:
    """The factor that turns numbers into pixels in [0, 255]: 1 or 255.

    Integers in [0, 255] and floats that are such integers have factor 1. Floats in
    [0, 1] that are such integers divided by 255 have factor 255. All values count.

    Raises:
        DataError: the values are none of these.
    """
    if array.dtype == np.uint8:
        return 1
    if array.dtype.kind in "iu":
        return check_integers(array, where)
    if array.dtype.kind != "f":
        line = 'images = images.astype("uint8") * 255'
        raise wrong_pixels(where, str(array.dtype), f"Convert the array: {line}")
    low, high, whole, bytes_of_255 = float_range(array)
    if low >= 0 and high <= 1 and bytes_of_255:
        return 255
    if low >= 0 and high <= 255 and whole:
        return 1
    repairs = {
        (0, 1): '(images * 255).round().astype("uint8")',
        (0, 255): 'images.round().astype("uint8")',
        (-1, 1): '((images + 1) * 127.5).round().astype("uint8")',
    }
    found = f"{array.dtype} from {low:.6g} to {high:.6g}"
    for (least, most), line in repairs.items():
        if least <= low and high <= most:
            raise wrong_pixels(where, found, f"Round them: images = {line}")
    raise wrong_pixels(where, found, "Save the pixels from before they were normalized")


def check_integers(array: Array, where: str) -> int:
    """Returns 1, the scale of integers in [0, 255].

    Raises:
        DataError: a value is outside.
    """
    ranges = [(int(piece.min()), int(piece.max())) for piece in read_pieces(array)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if low >= 0 and high <= 255:
        return 1
    found = f"{array.dtype} from {low} to {high}"
    if low < 0 or high > 65535:
        repair = "Save the pixels from before they were changed"
    else:
        bits = high.bit_length()
        line = f'images = (images // {1 << (bits - 8)}).astype("uint8")'
        repair = f"Reduce {bits} bits to 8: {line}"
    raise wrong_pixels(where, found, repair)


def float_range(array: Array) -> tuple[float, float, bool, bool]:
    """Smallest and largest value; whether all are whole; whether all times 255 are.

    NaN makes both ends NaN. "Whole" allows for the rounding of the division by 255.
    """
    # A float64 may have been a float32 before.
    coarser = np.float16 if array.dtype.itemsize == 2 else np.float32
    tolerance = 255 * float(np.finfo(coarser).eps)
    low, high, whole, bytes_of_255 = np.inf, -np.inf, True, True
    for piece in read_pieces(array):
        low, high = np.minimum(low, piece.min()), np.maximum(high, piece.max())
        whole = whole and bool((piece == np.rint(piece)).all())
        if bytes_of_255 and low >= 0 and high <= 1:
            pixels = piece.astype(np.float32) * np.float32(255)
            bytes_of_255 = bool((abs(pixels - np.rint(pixels)) <= tolerance).all())
    return float(low), float(high), whole, bytes_of_255


def wrong_pixels(where: str, found: str, repair: str) -> DataError:
    """The error for pixels that are not bytes."""
    return DataError(
        f"{where}: images: expected uint8 or other integers in [0, 255], "
        f"found {found}. {repair}"
    )
