"""The user's own arrays, in the layout that prepare itself writes."""

import os
from pathlib import Path
from typing import TypeGuard

import numpy as np

from src.data.split import Examples, Source
from src.errors import DataError
from src.faults import shortened
from src.files import check_inside, read_json
from src.npz import read_arrays

REPAIR = "Put arrays `images` and `labels` there, as README.md, Your own data, shows."


def load_arrays(folder: Path) -> Source:
    """Reads `train.npz`, and `validation.npz`, `test.npz`, `manifest.json` if there.

    Class names are those of the manifest; without one, the labels' own numbers.

    Raises:
        DataError: `train.npz` is missing, or a file has another layout.
    """
    train = read_split(folder / "train.npz")
    optional = [folder / f"{name}.npz" for name in ("validation", "test")]
    # Not `exists`: a link to nothing is an error, not a split to be cut from train.
    validation, test = (
        read_split(path) if os.path.lexists(path) else None for path in optional
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


def read_split(path: Path) -> Examples:
    """Reads `images` and `labels`; labels of any integer type become int32.

    Raises:
        DataError: another set of arrays, or labels that are no integers.
    """
    check_inside(path, path.parent)
    arrays = read_arrays(path, REPAIR)
    if sorted(arrays) != ["images", "labels"]:
        raise DataError(
            f"{path}: expected the arrays images and labels, "
            f"found {', '.join(sorted(arrays)[:9]) or 'none'}. {REPAIR}"
        )
    labels = arrays["labels"]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(
            f"{path}: labels: expected integers with 1 dimension, "
            f"found {labels.dtype} {list(labels.shape)}. {REPAIR}"
        )
    bounds = np.iinfo(np.int32)
    # Clipped, not wrapped: a label beyond int32 stays out of range and is found.
    labels = labels.clip(bounds.min, bounds.max).astype(np.int32)
    return Examples(arrays["images"], labels)


def is_names(value: object) -> TypeGuard[list[str]]:
    """Whether `value` is a list of different strings, at least one."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(name, str) and name for name in value)
        and len(set(value)) == len(value)
    )
