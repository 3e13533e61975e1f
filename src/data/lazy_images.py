"""Images that stay in their files: a split may be larger than memory.

Rows are read as they are asked for, through the kernel's cache of files. They are not
memory-mapped. Measured with 4.7 GB of images of 784 bytes: 2,048 random rows of a
mapping made 2.5 GB resident, for the kernel maps all of a large page; with the pages
given back after each such batch a row costs 2 to 3 microseconds, to read it 1. And a
file that is truncated meanwhile is an error here, not a signal that kills the process.
"""

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from src import paths
from src.storage.atomic import make_folder, storage_errors
from src.storage.lazy_npz import LazyArray, OpenFile

REPAIR = "Run it again."
PIECE = 1 << 24  # bytes of pixels that are read or looked at in one go
IN_MEMORY = 1 << 28  # bytes of pixels on their way in, beyond which they go to a file


class LazyImages:
    """Images `[n, height, width, channels]` in one file or several, or some of them.

    It may be read from several threads; each read lets the others run. Each file is
    open until the last of the objects that were made of it is gone.
    """

    def __init__(
        self, parts: Sequence[LazyArray], rows: np.ndarray | None = None
    ) -> None:
        """Takes the first part's first image as number 0.

        Args:
            parts: uint8 arrays with 4 dimensions, of the same image shape.
            rows: int64, which of all images, in which order; None: all as they lie.
        """
        self.parts, self.rows = tuple(parts), rows
        self.starts = np.cumsum([0, *(len(part) for part in parts)])
        self.offsets = np.array([part.offset for part in parts])
        self.descriptors = np.array([part.file.descriptor for part in parts])
        count = int(self.starts[-1]) if rows is None else len(rows)
        self.dtype, self.ndim = parts[0].dtype, len(parts[0].shape)
        self.shape = (count, *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The images at `rows`, uint8 `[len(rows), height, width, channels]`, a copy.

        Args:
            rows: a slice, truth values, or indices from 0 in any order.

        Raises:
            IndexError: there is no such image.
            DataError: a file is shorter than it was.
        """
        numbers = self.numbers(rows)
        images = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        size = piece_length(self.shape)
        for start in range(0, len(numbers), size):
            piece = images[start : start + size]
            content = self.read(numbers[start : start + size])
            piece[:] = np.frombuffer(content, self.dtype).reshape(piece.shape)
        return images

    def choose(self, rows: slice | np.ndarray) -> Self:
        """The images at `rows` without reading them; as for `__getitem__`."""
        return type(self)(self.parts, self.numbers(rows))

    def numbers(self, rows: slice | np.ndarray) -> np.ndarray:
        """Where the images at `rows` stand among all in the files: int64."""
        if isinstance(rows, slice):
            wanted = np.arange(*rows.indices(len(self)))
        elif rows.dtype == bool:
            if len(rows) != len(self):
                raise IndexError(f"{len(rows)} truth values for {len(self)} images")
            wanted = np.flatnonzero(rows)
        else:
            wanted = rows.astype(np.int64)  # int32 times the size of an image overflows
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows from 0 to {len(self) - 1} expected")
        return wanted if self.rows is None else self.rows[wanted]

    def read(self, numbers: np.ndarray) -> bytes:
        """The bytes of the images with these numbers, one behind the other."""
        width = math.prod(self.shape[1:]) * self.dtype.itemsize
        part = np.searchsorted(self.starts, numbers, side="right") - 1
        # Neighbours are read in one call: a run ends where the next number is another,
        # or lies in the next file.
        ends = (np.diff(numbers) != 1) | (np.diff(part) != 0)
        begins = np.flatnonzero(np.concatenate([[True], ends]))
        sizes = np.diff(np.append(begins, len(numbers))) * width
        files, first = part[begins], numbers[begins]
        offsets = self.offsets[files] + (first - self.starts[files]) * width
        columns = self.descriptors[files], sizes, offsets
        runs = list(map(os.pread, *(column.tolist() for column in columns)))
        content = b"".join(runs)
        if len(content) < len(numbers) * width:
            short = np.flatnonzero([len(run) for run in runs] < sizes)[0]
            raise self.parts[files[short]].file.cut_short()
        return content


Images = np.ndarray | LazyImages


def pieces(images: Images) -> Iterator[np.ndarray]:
    """All images in their order, `[m, height, width, channels]` each time."""
    size = piece_length(images.shape)
    for start in range(0, len(images), size):
        yield images[start : start + size]


def piece_length(shape: tuple[int, ...]) -> int:
    """How many images of this shape `[n, ...]` are read in one go."""
    return max(PIECE // max(math.prod(shape[1:]), 1), 1)


class ImageWriter:
    """Images on their way in: in memory, or where they are many in a file.

    The file has no name, so that nothing is left of it whatever happens.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Is to be given uint8 images `[n, height, width, channels]`, `n` at most.

        Raises:
            StorageError: the file cannot be made.
        """
        self.shape, self.count = shape, 0
        self.array: np.ndarray | None = None
        if math.prod(shape) <= IN_MEMORY:
            self.array = np.empty(shape, np.uint8)
            return
        make_folder(paths.PREPARED)  # the disk that must hold them anyway
        with storage_errors(paths.PREPARED):
            self.file = tempfile.TemporaryFile(  # noqa: SIM115 - closed in `images`
                dir=paths.PREPARED, buffering=0
            )

    def add(self, images: np.ndarray) -> None:
        """Puts `images` behind those that are there.

        Raises:
            ValueError: they have another shape, or are too many.
            StorageError: the disk is full.
        """
        stop = self.count + len(images)
        if images.shape[1:] != self.shape[1:] or stop > self.shape[0]:
            raise ValueError(f"{images.shape} for the rest of {self.shape}")
        if self.array is not None:
            self.array[self.count : stop] = images
        else:
            rest = np.asarray(images, np.uint8, order="C").reshape(-1).data
            with storage_errors(paths.PREPARED):
                while rest:
                    rest = rest[self.file.write(rest) :]
        self.count = stop

    def images(self) -> Images:
        """All that was added; nothing is added afterwards."""
        if self.array is not None:
            return self.array[: self.count]
        shape = self.count, *self.shape[1:]
        with self.file as file:
            opened = OpenFile(paths.PREPARED, REPAIR, file)
        return LazyImages([LazyArray(opened, 0, np.dtype(np.uint8), shape)])
