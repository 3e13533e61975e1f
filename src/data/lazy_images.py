"""Images that stay on disk, so a split may be larger than memory.

Rows are read on demand, through the operating system's page cache. They are not
memory-mapped, for two reasons. Measured with 4.7 GB of 784-byte images, 2,048 random
rows of a mapping made 2.5 GB resident, because the kernel maps whole large pages.
Releasing them after each batch costs 2 to 3 microseconds a row; reading a row costs 1.
And reading a truncated file raises an error, where a mapping would kill the process.
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

RUN_AGAIN = "Run the stage again."
PIECE_BYTES = 1 << 24  # pixels that are read at a time
MAX_IN_MEMORY = 1 << 25  # bytes of pixels; `ImageWriter` writes more of them to a file


class LazyImages:
    """Images `[n, height, width, channels]` in one or more files, or some of them.

    Several threads may read at once. A file is closed with the last object that uses
    it.
    """

    def __init__(
        self, parts: Sequence[LazyArray], rows: np.ndarray | None = None
    ) -> None:
        """Joins arrays and selects from them.

        Args:
            parts: uint8 arrays with 4 dimensions, of the same image shape.
            rows: int64 indices into the images of all parts; None: all in order.
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
        """Reads the images at `rows`, uint8 `[len(rows), height, width, channels]`.

        Args:
            rows: a slice, booleans, or indices >= 0 in any order.

        Raises:
            IndexError: an index is out of range.
            DataError: a file was truncated.
        """
        indices = self.file_indices(rows)
        images = np.empty((len(indices), *self.shape[1:]), self.dtype)
        size = piece_length(self.shape)
        for start in range(0, len(indices), size):
            piece = images[start : start + size]
            content = self.read(indices[start : start + size])
            piece[:] = np.frombuffer(content, self.dtype).reshape(piece.shape)
        return images

    def select(self, rows: slice | np.ndarray) -> Self:
        """The images at `rows` without reading them; `rows` as for `__getitem__`."""
        return type(self)(self.parts, self.file_indices(rows))

    def file_indices(self, rows: slice | np.ndarray) -> np.ndarray:
        """The indices of `rows` among all images in the files, int64."""
        if isinstance(rows, slice):
            wanted = np.arange(*rows.indices(len(self)))
        elif rows.dtype == bool:
            if len(rows) != len(self):
                raise IndexError(f"{len(rows)} booleans for {len(self)} images")
            wanted = np.flatnonzero(rows)
        else:
            wanted = rows.astype(np.int64)  # int32 times the size of an image overflows
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"expected rows in [0, {len(self)})")
        return wanted if self.rows is None else self.rows[wanted]

    def read(self, indices: np.ndarray) -> bytes:
        """Reads the bytes of images by their indices among all in the files.

        Raises:
            DataError: a file was truncated.
        """
        image_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        part = np.searchsorted(self.starts, indices, side="right") - 1
        # One call reads a run of neighbours; a run ends at a gap or with its file.
        ends = (np.diff(indices) != 1) | (np.diff(part) != 0)
        begins = np.flatnonzero(np.concatenate([[True], ends]))
        sizes = np.diff(np.append(begins, len(indices))) * image_bytes
        files, first = part[begins], indices[begins]
        offsets = self.offsets[files] + (first - self.starts[files]) * image_bytes
        columns = self.descriptors[files], sizes, offsets
        runs = list(map(os.pread, *(column.tolist() for column in columns)))
        content = b"".join(runs)
        if len(content) < len(indices) * image_bytes:
            short = np.flatnonzero([len(run) for run in runs] < sizes)[0]
            raise self.parts[files[short]].file.cut_short()
        return content


Images = np.ndarray | LazyImages


def pieces(images: Images) -> Iterator[np.ndarray]:
    """Yields all images in order, a piece `[m, height, width, channels]` at a time."""
    size = piece_length(images.shape)
    for start in range(0, len(images), size):
        yield images[start : start + size]


def piece_length(shape: tuple[int, ...]) -> int:
    """The number of images of shape `[n, ...]` that are read at a time."""
    return max(PIECE_BYTES // max(math.prod(shape[1:]), 1), 1)


class ImageWriter:
    """Collects images, in memory or, if they are many, in a temporary file.

    The file has no name, so the operating system removes it however the process ends.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Makes room for uint8 images.

        Args:
            shape: `[n, height, width, channels]` of all images, or more.

        Raises:
            StorageError: the temporary file cannot be made.
        """
        self.shape, self.count = shape, 0
        self.array: np.ndarray | None = None
        if math.prod(shape) <= MAX_IN_MEMORY:
            self.array = np.empty(shape, np.uint8)
            return
        make_folder(paths.PREPARED)  # on the disk that will hold the prepared images
        with storage_errors(paths.PREPARED):
            self.file = tempfile.TemporaryFile(  # noqa: SIM115 - closed in `images`
                dir=paths.PREPARED, buffering=0
            )

    def add(self, images: np.ndarray) -> None:
        """Appends images.

        Args:
            images: uint8 `[m, height, width, channels]`.

        Raises:
            ValueError: the image shape differs, or there are too many.
            StorageError: the disk is full.
        """
        stop = self.count + len(images)
        if images.shape[1:] != self.shape[1:] or stop > self.shape[0]:
            raise ValueError(f"{images.shape} for the rest of {self.shape}")
        if self.array is not None:
            self.array[self.count : stop] = images
        else:
            unwritten = np.asarray(images, np.uint8, order="C").reshape(-1).data
            with storage_errors(paths.PREPARED):
                while unwritten:
                    unwritten = unwritten[self.file.write(unwritten) :]
        self.count = stop

    def images(self) -> Images:
        """All images that were added; none may be added afterwards."""
        if self.array is not None:
            return self.array[: self.count]
        shape = self.count, *self.shape[1:]
        with self.file as file:
            opened = OpenFile(paths.PREPARED, RUN_AGAIN, file)
        return LazyImages([LazyArray(opened, 0, np.dtype(np.uint8), shape)])
