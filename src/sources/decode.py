"""Decodes pictures in memory on all cores; the results come in the given order."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self, TypeVar

import numpy as np
from PIL import Image

from src.config.names import BackgroundName, ChannelsName, ImageFit, ImageSize, OnBroken
from src.config.params import Params
from src.data.lazy_images import Images, ImageWriter, pieces
from src.data.pictures import (
    PictureError,
    PicturePolicy,
    is_colour,
    open_picture,
    orientation,
    read_pixels,
    to_pixels,
)
from src.runtime.cores import available_cores

MAX_THREADS = 16  # each may decode a picture of `MAX_PIXELS`
AHEAD = 4  # pictures per thread that are decoded before they are asked for
SIDEWAYS = 5  # from this EXIF orientation on, width and height are exchanged
LARGEST_PROPOSAL = 224  # pixels; larger pictures train slowly
Item = TypeVar("Item")
Result = TypeVar("Result")


class PictureOptions(NamedTuple):
    """The parameters of pictures."""

    size: ImageSize | None  # a side, or height and width
    fit: ImageFit
    channels: ChannelsName
    background: BackgroundName
    on_broken: OnBroken

    @classmethod
    def of(cls, params: Params) -> Self:
        """The options in `params.yaml`."""
        return cls(
            params.image_size,
            params.image_fit,
            params.channels,
            params.background,
            params.on_broken,
        )

    def policy(self, height: int, width: int) -> PicturePolicy:
        """How pictures are read: with colours where grey is not certain."""
        channels = 1 if self.channels == "grey" else 3
        return PicturePolicy((height, width), self.fit, channels, self.background)


class Decoded(NamedTuple):
    """A picture that was read."""

    pixels: np.ndarray  # uint8 [height, width, channels]
    digest: str  # SHA-256 of the file
    width: int  # of the picture in the file, as viewers show it
    height: int
    colour: bool  # whether the pixels have colours


class Broken(NamedTuple):
    """A picture that cannot be read."""

    reason: str


def decode(content: bytes, policy: PicturePolicy) -> Decoded | Broken:
    """Reads a picture from the content of its file."""
    try:
        width, height = upright_size(content)
        pixels = read_pixels(content, policy)
    except PictureError as error:
        return Broken(str(error))
    digest = hashlib.sha256(content).hexdigest()
    colour = policy.channels == 3 and is_colour(pixels)
    return Decoded(pixels, digest, width, height, colour)


def upright_size(content: bytes) -> tuple[int, int]:
    """The width and height of a picture as viewers show it.

    Raises:
        PictureError: it is no picture.
    """
    with open_picture(content) as picture:
        width, height = picture.size
        # Pillow gives the size of a TIFF picture as viewers show it.
        turned = picture.format != "TIFF" and orientation(picture) >= SIDEWAYS
        return (height, width) if turned else (width, height)


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Yields `function(item)` for each item, computed by threads on all cores.

    Pillow and hashlib release the interpreter's lock while they work.
    """
    threads = min(len(available_cores()) or os.cpu_count() or 1, MAX_THREADS)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def to_grey(images: Images) -> Images:
    """Grey images from RGB images, as `read_pixels` gives them for one channel."""
    writer = ImageWriter((*images.shape[:3], 1))
    for piece in pieces(images):
        for pixels in piece:
            writer.add(to_pixels(Image.fromarray(pixels), 1)[np.newaxis])
    return writer.images()


def median_side(sizes: Sequence[tuple[int, int]]) -> int:
    """A size to propose for pictures of several sizes: the median of their sides."""
    return min(max(int(np.median(np.array(sizes))), 1), LARGEST_PROPOSAL)
