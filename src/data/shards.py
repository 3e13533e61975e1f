"""A split in several files: `train.npz`, then `shards/train/00001.npz` and so on.

Each file is small enough to be written from memory; the split may be larger. Each split
has a folder, so that dvc.yaml can make one split a dependency and not another.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.data.examples import Examples
from src.data.lazy_images import Images, LazyImages
from src.errors import DataError
from src.storage.lazy_npz import LazyArray

SPLITS = "train", "validation", "test"
ABOUT = "about.txt"  # in each folder of shards, because DVC warns of an empty one


def shard_name(split: str, index: int) -> str:
    """The path of a split's file number `index`, from 0, in the data folder."""
    return f"shards/{split}/{index:05}.npz" if index else f"{split}.npz"


def find_shards(folder: Path, split: str) -> list[str]:
    """The paths of a split's files after the first one, in order.

    Args:
        folder: the data folder.
        split: train, validation or test.

    Raises:
        DataError: a shard is missing, or a file has an unexpected name.
    """
    shards = folder / "shards" / split
    found = sorted(path.name for path in shards.glob("[!.]*") if path.name != ABOUT)
    names = [shard_name(split, index) for index in range(1, len(found) + 1)]
    for name, other in zip(names, found, strict=True):
        if name != f"shards/{split}/{other}":
            raise DataError(
                f"{shards / other}: expected {name}, because shards are numbered from "
                f"00001, found {other}. Add the missing shard, or rename this one."
            )
    return names


def check_shard_folders(folder: Path) -> None:
    """Raises DataError if `shards` has folders or npz files that belong to no split.

    Without this check, a misspelt folder would be ignored silently.
    """
    for path in sorted((folder / "shards").glob("[!.]*")):
        if path.name not in SPLITS and (path.is_dir() or path.suffix == ".npz"):
            raise DataError(
                f"{path}: expected shards/train/00001.npz and so on, shards/validation "
                f"and shards/test, found {path.name}. Rename or remove it."
            )


def concatenate(parts: Sequence[tuple[Path, Examples]]) -> Examples:
    """Joins the files of a split, in order.

    Args:
        parts: the path and the examples of each file. Images are `LazyArray` or in
            memory; labels are in memory.

    Raises:
        DataError: the images of two files have different shapes.
    """
    first, (images, _) = parts[0]
    for path, part in parts:
        if part.images.shape[1:] != images.shape[1:]:
            raise DataError(
                f"{path}: images: expected shape {list(images.shape[1:])} as in "
                f"{first}, found {list(part.images.shape[1:])}. Resize all images "
                "to one shape."
            )
    labels = np.concatenate([part.labels for _, part in parts])
    return Examples(join_images([part.images for _, part in parts]), labels)


def join_images(arrays: Sequence[LazyArray | np.ndarray]) -> Images:
    """Joins arrays: lazily if all are `LazyArray`, otherwise in memory."""
    lazy = [array for array in arrays if isinstance(array, LazyArray)]
    if len(lazy) == len(arrays):
        return LazyImages(lazy)
    return np.concatenate([in_memory(array) for array in arrays])


def in_memory(array: LazyArray | np.ndarray) -> np.ndarray:
    """The array in memory; reads it if it is still on disk."""
    return array.read() if isinstance(array, LazyArray) else array
