"""Decodes many picture files on all cores; the results come in the files' order.

Each file is read once: its digest, its size as viewers show it, and its pixels. Only a
few pictures are in memory at a time.
"""

import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Event
from typing import NamedTuple, Self, TypeAlias, TypeVar

import numpy as np
from PIL import Image

from src.config.names import BackgroundName, ChannelsName, ImageFit, ImageSize, OnBroken
from src.config.params import Params
from src.data.lazy_images import Images, ImageWriter, pieces
from src.data.picture_facts import is_colour, read_upright_size, upright_size
from src.data.pictures import (
    PictureError,
    PicturePolicy,
    open_picture,
    pixels_of,
    to_pixels,
)
from src.runtime.cores import available_cores

MAX_FILE_BYTES = 1 << 28
MAX_THREADS = 16  # each may decode a picture of `MAX_PIXELS`
PER_TASK = 4  # pictures; with fewer, threads wait for each other more often
Item = TypeVar("Item")
Result = TypeVar("Result")


class PictureOptions(NamedTuple):
    """The parameters of picture files."""

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


class Broken(NamedTuple):
    """A picture that cannot be read."""

    reason: str


Content: TypeAlias = Path | bytes | Broken  # of a picture: a file, its bytes, or none


def decode_content(
    content: Content, policy: PicturePolicy, colour: Event
) -> Decoded | Broken:
    """Reads a picture; sets `colour` if it has colours.

    Once it is set, no other picture is asked.
    """
    if isinstance(content, Broken):
        return content
    try:
        packed = read_content(content) if isinstance(content, Path) else content
        with open_picture(packed) as picture:
            width, height = upright_size(picture)
            pixels = pixels_of(picture, policy)
    except PictureError as error:
        return Broken(str(error))
    digest = hashlib.sha256(packed).hexdigest()
    if not colour.is_set() and policy.channels == 3 and is_colour(pixels):
        colour.set()
    return Decoded(pixels, digest, width, height)


def read_size(content: Content) -> tuple[int, int] | Broken:
    """The width and height of a picture, without decoding its pixels."""
    if isinstance(content, Broken):
        return content
    try:
        return read_upright_size(content)
    except PictureError as error:
        return Broken(str(error))


def read_content(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        PictureError: it is no regular file, too large, or may not be read.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise PictureError("no file")  # opening a pipe would block
        if state.st_size > MAX_FILE_BYTES:
            raise PictureError(f"{state.st_size} bytes, which are too many")
        return path.read_bytes()
    except FileNotFoundError:
        raise PictureError("no file") from None
    except OSError as error:
        raise PictureError(error.strerror or "an unreadable file") from None


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Yields `function(item)` for each item, computed by threads on all cores.

    Pillow and hashlib release the interpreter's lock while they work.
    """

    def compute(chunk: Sequence[Item]) -> list[Result]:
        return [function(item) for item in chunk]

    cores = len(available_cores()) or os.cpu_count() or 1
    threads = min(cores, MAX_THREADS)
    remaining = iter(items)
    waiting: deque[Future[list[Result]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        while chunk := list(islice(remaining, PER_TASK)):
            waiting.append(pool.submit(compute, chunk))
            if len(waiting) > threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def to_grey(images: Images) -> Images:
    """Grey images from RGB images, as `read_pixels` gives them for one channel."""
    writer = ImageWriter((*images.shape[:3], 1))
    for piece in pieces(images):
        for pixels in piece:
            grey = to_pixels(Image.fromarray(pixels), 1)
            writer.add(grey[np.newaxis])
    return writer.images()


def median_side(sizes: Sequence[tuple[int, int]]) -> int:
    """A size to propose for pictures of several sizes: the median of their sides.

    At most 224, the usual size for networks: larger pictures train slowly.
    """
    return min(max(int(np.median(np.array(sizes))), 1), 224)
