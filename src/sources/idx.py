"""MNIST's own format: four files of bytes, each with a header, gzipped or not.

Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database", the file format IDX.
"""

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from src.data.examples import Examples, PassedOver, Source
from src.data.lazy_images import ImageWriter, LazyImages
from src.errors import DataError, one_line
from src.sources.arrays import to_images
from src.sources.labels import Labels, number_classes
from src.storage.lazy_npz import CHUNK_BYTES, LazyArray, OpenFile
from src.storage.npz import FREE_BYTES, MAX_RATIO
from src.storage.reading import check_inside, open_regular

IDX_KINDS = {"images": 3, "labels": 1}  # with their number of dimensions
PREFIXES = {"train": ("train",), "test": ("t10k", "test"), "validation": ("val",)}
File: TypeAlias = BinaryIO | gzip.GzipFile
DOWNLOAD = "Download it again, or unpack it with gunzip first."


def load_idx(folder: Path) -> Source:
    """Reads `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, and `t10k-...`.

    The labels are the class names.

    Raises:
        DataError: a file is missing or malformed.
        StorageError: the disk is full.
    """
    passed_over: list[PassedOver] = []
    splits = {}
    for split, prefixes in PREFIXES.items():
        found = find_pair(folder, prefixes, split == "train", passed_over)
        if found is not None:
            splits[split] = read_pair(folder, *found)
    class_names, labels = number_classes(
        {split: labels for split, (_, labels) in splits.items()}, None
    )
    examples = {
        split: Examples(images, labels[split]) for split, (images, _) in splits.items()
    }
    source = Source.of_splits("idx", class_names, examples)
    return source._replace(passed_over=passed_over)


def find_pair(
    folder: Path,
    prefixes: tuple[str, ...],
    required: bool,
    passed_over: list[PassedOver],
) -> tuple[Path, Path] | None:
    """The files of images and labels of a split; None if both are missing.

    Args:
        folder: `data_path`.
        prefixes: the words that their names may begin with.
        required: whether the split must be there.
        passed_over: packed files that are not used are added.

    Raises:
        DataError: one is missing, or both and the split is required.
    """
    pair = []
    for kind, rank in IDX_KINDS.items():
        names = [
            f"{prefix}-{kind}{mark}idx{rank}-ubyte{suffix}"
            for prefix in prefixes
            for suffix in ("", ".gz")
            for mark in ("-", ".")
        ]
        # A zip of Kaggle's has each file once more in a folder of its name.
        found = [name for name in names if is_file_or_link(folder / name)]
        pair += found[:1]
        passed_over += [PassedOver(name, f"{found[0]} is used") for name in found[1:]]
    if len(pair) == 2:
        return folder / pair[0], folder / pair[1]
    if pair or required:
        first = prefixes[0]
        raise DataError(
            f"{folder}: expected {first}-images-idx3-ubyte and "
            f"{first}-labels-idx1-ubyte, perhaps with .gz, found "
            f"{pair[0] if pair else 'neither'}. Put both there, or set data_path in "
            "params.yaml."
        )
    return None


def is_file_or_link(path: Path) -> bool:
    """Whether the path has anything but a folder; a broken link must be an error."""
    return os.path.lexists(path) and not path.is_dir()


def read_pair(
    folder: Path, images: Path, labels: Path
) -> tuple[LazyImages | np.ndarray, Labels]:
    """Reads a split; images in a file that is not packed stay there.

    Raises:
        DataError: a file is malformed, or the files have different lengths.
        StorageError: the disk is full.
    """
    numbers = read_idx(labels, folder, 1)
    values = numbers[:].reshape(-1).astype(np.int64)
    pixels = read_idx(images, folder, 3)
    parts = pixels.parts[0] if isinstance(pixels, LazyImages) else pixels
    final = to_images(parts, len(values), str(images)).images
    joined = LazyImages([final]) if isinstance(final, LazyArray) else final
    return joined, Labels(values, str(labels))


def read_idx(path: Path, folder: Path, rank: int) -> LazyImages | np.ndarray:
    """Reads a file of bytes with `rank` dimensions.

    Raises:
        DataError: the header is malformed, or does not fit the size of the file.
        StorageError: the disk is full.
    """
    check_inside(path, folder)
    with open_regular(path, DOWNLOAD) as file:
        size = os.fstat(file.fileno()).st_size
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        try:
            if packed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return unpack(unpacked, rank, size)
            shape = read_shape(file, rank)
            begin = file.tell()
            if size - begin != math.prod(shape):
                raise ValueError(f"{size - begin} bytes for the shape {list(shape)}")
            opened = OpenFile(path, DOWNLOAD, file)
            return LazyImages([LazyArray(opened, begin, np.dtype(np.uint8), shape)])
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise DataError(
                f"{path}: expected an idx file of bytes with {rank} dimensions, found "
                f"{one_line(error)}. {DOWNLOAD}"
            ) from None


def read_shape(file: File, rank: int) -> tuple[int, ...]:
    """Reads the header: 0, 0, the type (8: bytes), the rank, then each dimension.

    Raises:
        ValueError: the header has another type or rank, or a dimension is 0.
    """
    magic, header = bytes((0, 0, 8, rank)), file.read(4 + 4 * rank)
    if header[:4] != magic or len(header) < 4 + 4 * rank:
        raise ValueError(f"a header of {header[:4]!r} instead of {magic!r}")
    shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
    if 0 in shape:
        raise ValueError(f"the shape {list(shape)}")
    return shape


def unpack(file: File, rank: int, packed: int) -> LazyImages | np.ndarray:
    """Unpacks a gzipped file piece by piece, never more than its header claims.

    Args:
        file: the content.
        rank: its number of dimensions.
        packed: bytes of the packed file, which bounds what is believed.

    Raises:
        ValueError: the header is malformed, claims too much, or the content is longer
            or shorter. Other errors are gzip's.
        StorageError: the disk is full.
    """
    shape = read_shape(file, rank)
    count = math.prod(shape)
    if count > FREE_BYTES + MAX_RATIO * packed:
        raise ValueError(f"{packed} packed bytes that claim to hold {count}")
    writer = ImageWriter(shape)
    for rows in chunks(file, shape):
        writer.add(rows)
    if file.read(1):
        raise ValueError(f"more bytes than for the shape {list(shape)}")
    return writer.images()


def chunks(file: File, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yields rows of bytes `[m, ...]` until there are `shape[0]`.

    Raises:
        ValueError: the file ends too early.
    """
    row = math.prod(shape[1:])
    step = max(CHUNK_BYTES // row, 1)
    for start in range(0, shape[0], step):
        count = min(step, shape[0] - start)
        content = file.read(count * row)
        if len(content) < count * row:
            raise ValueError(f"fewer bytes than for the shape {list(shape)}")
        yield np.frombuffer(content, np.uint8).reshape(count, *shape[1:])
