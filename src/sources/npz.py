"""The user's own arrays, in npz files with the layout of `data/prepared`."""

import os
from pathlib import Path
from typing import TypeGuard

import numpy as np

from src.data.examples import Examples, Source, check_layout
from src.data.shards import check_shard_folders, concatenate, find_shards, in_memory
from src.errors import DataError, shortened
from src.storage.json_files import read_json
from src.storage.lazy_npz import locate_arrays
from src.storage.reading import check_inside

SAVE_ARRAYS = (
    "Save arrays images, uint8 [n, height, width, channels], and labels, integers [n], "
    "there with numpy.savez."
)


def load_npz(folder: Path) -> Source:
    """Reads `train.npz` and optionally `validation.npz`, `test.npz`, `manifest.json`.

    The manifest gives the class names; without one, the labels are their names.

    Args:
        folder: `data_path`.

    Raises:
        DataError: `train.npz` is missing, or a file is malformed.
    """
    check_shard_folders(folder)
    train = read_npz_split(folder, "train")
    validation, test = (
        read_npz_split(folder, name) if is_there(folder, name) else None
        for name in ("validation", "test")
    )
    manifest = folder / "manifest.json"
    if os.path.lexists(manifest):
        check_inside(manifest, folder)
        class_names = read_json(manifest, SAVE_ARRAYS).get("class_names")
        if not is_names(class_names):
            raise DataError(
                f"{manifest}: class_names: expected a list of different names, "
                f"found {shortened(class_names)}. {SAVE_ARRAYS}"
            )
    else:
        labels = np.unique(train.labels)
        if not np.array_equal(labels, np.arange(len(labels))):
            raise DataError(
                f"{folder / 'train.npz'}: labels: expected all integers from 0 to the "
                f"largest label, found {len(labels)} distinct ones from {labels[0]} to "
                f"{labels[-1]}. Add a manifest.json with class_names to the folder, or "
                "correct the labels."
            )
        class_names = [str(label) for label in labels]
    return Source("npz", "none", class_names, train, validation, test)


def is_there(folder: Path, name: str) -> bool:
    """Whether the folder has any file of a split, readable or not."""
    # Not `exists`: a broken link must be an error, not a missing split.
    return os.path.lexists(folder / f"{name}.npz") or bool(find_shards(folder, name))


def read_npz_split(folder: Path, name: str) -> Examples:
    """Reads a split from `train.npz`, `shards/train/00001.npz` and so on.

    Raises:
        DataError: a file is missing or malformed.
    """
    files = [f"{name}.npz", *find_shards(folder, name)]
    return concatenate(
        [(folder / file, read_npz_file(folder / file, folder)) for file in files]
    )


def read_npz_file(path: Path, folder: Path) -> Examples:
    """Reads `labels`, of any integer dtype, as int32; leaves `images` on disk.

    Images that are compressed or in Fortran order are read too.

    Raises:
        DataError: the file is missing, or its arrays have other names or dtypes.
    """
    check_inside(path, folder)
    arrays = locate_arrays(path, SAVE_ARRAYS)
    if sorted(arrays) != ["images", "labels"]:
        raise DataError(
            f"{path}: expected the arrays images and labels, "
            f"found {', '.join(sorted(arrays)[:9]) or 'none'}. {SAVE_ARRAYS}"
        )
    images, labels = arrays["images"], arrays["labels"]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(
            f"{path}: labels: expected integers with 1 dimension, "
            f"found {labels.dtype} {list(labels.shape)}. {SAVE_ARRAYS}"
        )
    bounds = np.iinfo(np.int32)
    # Clipped, not wrapped, so that a label beyond int32 stays out of range.
    labels = in_memory(labels).clip(bounds.min, bounds.max).astype(np.int32)
    part = Examples(images, labels)
    check_layout(part, str(path))
    return part


def is_names(value: object) -> TypeGuard[list[str]]:
    """Whether `value` is a list of at least one string, all different."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(name, str) and name for name in value)
        and len(set(value)) == len(value)
    )
