"""The user's own arrays, in the layout that prepare itself writes, read by row."""

import os
from pathlib import Path
from typing import TypeGuard

import numpy as np

from src.data.examples import Examples, Source, check_layout
from src.data.shards import check_strangers, concatenate, find_shards, in_memory
from src.errors import DataError, shortened
from src.storage.json_files import read_json
from src.storage.lazy_npz import locate_arrays
from src.storage.reading import check_inside

REPAIR = "Put arrays `images` and `labels` there, as README.md, Your own data, shows."


def load_arrays(folder: Path) -> Source:
    """Reads `train.npz`, and `validation.npz`, `test.npz`, `manifest.json` if there.

    Class names are those of the manifest; without one, the labels' own numbers.

    Raises:
        DataError: `train.npz` is missing, or a file has another layout.
    """
    check_strangers(folder)
    train = read_split(folder, "train")
    validation, test = (
        read_split(folder, name) if is_there(folder, name) else None
        for name in ("validation", "test")
    )
    manifest = folder / "manifest.json"
    if os.path.lexists(manifest):
        check_inside(manifest, folder)
        class_names = read_json(manifest, REPAIR).get("class_names")
        if not is_names(class_names):
            raise DataError(
                f"{manifest}: class_names: expected a list of different names, "
                f"found {shortened(class_names)}. {REPAIR}"
            )
    else:
        labels = np.unique(train.labels)
        if not np.array_equal(labels, np.arange(len(labels))):
            raise DataError(
                f"{folder / 'train.npz'}: labels: expected every number from 0 "
                f"on, found {len(labels)} of them from {labels[0]} to {labels[-1]}. "
                "Write a manifest.json with class_names beside it, or mend the labels."
            )
        class_names = [str(label) for label in labels]
    return Source("npz", "none", class_names, train, validation, test)


def is_there(folder: Path, name: str) -> bool:
    """Whether there is anything of a split, be it unreadable."""
    # Not `exists`: a link to nothing is an error, not a split to be cut from train.
    return os.path.lexists(folder / f"{name}.npz") or bool(find_shards(folder, name))


def read_split(folder: Path, name: str) -> Examples:
    """Finds a split in `train.npz`, `shards/train/00001.npz` and so on.

    Raises:
        DataError: a file is missing, or has another layout.
    """
    files = [f"{name}.npz", *find_shards(folder, name)]
    return concatenate(
        [(folder / file, read_part(folder / file, folder)) for file in files]
    )


def read_part(path: Path, folder: Path) -> Examples:
    """Finds `images` in a file; reads `labels`, of any integer type, as int32.

    Raises:
        DataError: another set of arrays, of other types or shapes.
    """
    check_inside(path, folder)
    arrays = locate_arrays(path, REPAIR)
    if sorted(arrays) != ["images", "labels"]:
        raise DataError(
            f"{path}: expected the arrays images and labels, "
            f"found {', '.join(sorted(arrays)[:9]) or 'none'}. {REPAIR}"
        )
    images, labels = arrays["images"], arrays["labels"]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(
            f"{path}: labels: expected integers with 1 dimension, "
            f"found {labels.dtype} {list(labels.shape)}. {REPAIR}"
        )
    bounds = np.iinfo(np.int32)
    # Clipped, not wrapped: a label beyond int32 stays out of range and is found.
    labels = in_memory(labels).clip(bounds.min, bounds.max).astype(np.int32)
    part = Examples(images, labels)
    check_layout(part, str(path))
    return part


def is_names(value: object) -> TypeGuard[list[str]]:
    """Whether `value` is a list of different strings, at least one."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(name, str) and name for name in value)
        and len(set(value)) == len(value)
    )
