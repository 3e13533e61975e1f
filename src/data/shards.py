"""A split in several files: `train.npz`, then `shards/train/00001.npz` and so on.

Each is small enough to be made in memory, however large all of them are. A split has
a folder of its own, so that dvc.yaml can give a stage one split and not another.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.data.examples import Examples
from src.data.lazy_images import Images, LazyImages
from src.errors import DataError
from src.storage.lazy_npz import LazyArray

SPLITS = "train", "validation", "test"
ABOUT = "about.txt"  # lies beside the shards: DVC warns of an empty folder


def shard_name(split: str, index: int) -> str:
    """The file with `index` others before it, from the folder of all."""
    return f"shards/{split}/{index:05}.npz" if index else f"{split}.npz"


def find_shards(folder: Path, split: str) -> list[str]:
    """The names of what goes on with a split's first file, in order.

    Raises:
        DataError: one is left out, or has another name.
    """
    beside = folder / "shards" / split
    found = sorted(path.name for path in beside.glob("[!.]*") if path.name != ABOUT)
    names = [shard_name(split, index) for index in range(1, len(found) + 1)]
    for name, other in zip(names, found, strict=True):
        if name != f"shards/{split}/{other}":
            raise DataError(
                f"{beside / other}: expected {name} there, for shards are "
                "numbered from 00001 on. Put the one that is missing there, or rename."
            )
    return names


def check_strangers(folder: Path) -> None:
    """Raises DataError where something among the shards belongs to no split.

    Else a misspelt folder would be left out without a word.
    """
    for path in sorted((folder / "shards").glob("[!.]*")):
        if path.name not in SPLITS and (path.is_dir() or path.suffix == ".npz"):
            raise DataError(
                f"{path}: expected shards/train/00001.npz and so on, shards/validation "
                "and shards/test, found something else. Rename or remove it."
            )


def concatenate(parts: Sequence[tuple[Path, Examples]]) -> Examples:
    """One split of several, in their order.

    Args:
        parts: each with its file; images `LazyArray` or in memory, labels in memory.

    Raises:
        DataError: their images have different shapes.
    """
    first, (images, _) = parts[0]
    for path, part in parts:
        if part.images.shape[1:] != images.shape[1:]:
            raise DataError(
                f"{path}: images: expected shape {list(images.shape[1:])} as in "
                f"{first}, found {list(part.images.shape[1:])}. Bring all to one shape."
            )
    labels = np.concatenate([part.labels for _, part in parts])
    return Examples(join_images([part.images for _, part in parts]), labels)


def join_images(arrays: Sequence[LazyArray | np.ndarray]) -> Images:
    """One after the other: left in their files if all lie there, else in memory."""
    stored = [array for array in arrays if isinstance(array, LazyArray)]
    if len(stored) == len(arrays):
        return LazyImages(stored)
    return np.concatenate([in_memory(array) for array in arrays])


def in_memory(array: LazyArray | np.ndarray) -> np.ndarray:
    """The array, read if it is not yet."""
    return array.read() if isinstance(array, LazyArray) else array
