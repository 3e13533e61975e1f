"""`data/prepared`: what prepare writes and every later stage reads.

Behind this door nobody asks where the data came from.
"""

from itertools import combinations
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from src import paths
from src.data.split import (
    Examples,
    Source,
    check_examples,
    class_counts,
    cut,
    fingerprints,
    take,
)
from src.errors import DataError
from src.faults import shortened
from src.files import read_record, write_record
from src.npz import read_arrays, write_arrays

REPAIR = "Make it anew: dvc repro prepare"
MAX_CLASSES, MAX_NAME = 10_000, 100  # letters
TEST_FRACTION = 0.2  # of a source that brings no test split
CUT_TEST, CUT_VALIDATION = 1, 2  # streams of the seed

SplitName = Literal["train", "validation", "test"]


class Manifest(BaseModel, frozen=True):
    """What later stages need of `manifest.json`."""

    dataset: str
    version: str
    class_names: list[str]
    image_shape: tuple[int, int, int]  # height, width, channels
    sha256: dict[SplitName, str]  # of each npz, by split


def divide(source: Source, fraction: float, seed: int) -> dict[SplitName, Examples]:
    """Cuts what the source lacks from its train split, stratified and seeded.

    Raises:
        DataError: there are too few examples to cut from.
    """
    train, validation, test = source.train, source.validation, source.test
    if test is None:
        rest, rows = cut(train, TEST_FRACTION, (seed, CUT_TEST))
        train, test = take(train, rest), take(train, rows)
    if validation is None:
        rest, rows = cut(train, fraction, (seed, CUT_VALIDATION))
        train, validation = take(train, rest), take(train, rows)
    splits: dict[SplitName, Examples] = {
        "train": train,
        "validation": validation,
        "test": test,
    }
    for name, split in splits.items():
        if len(split.labels) == 0:
            raise DataError(
                f"{source.name}: {name}: expected examples, found none: no class of "
                f"the {len(source.train.labels)} training examples has one to spare. "
                "Bring more images."
            )
    return splits


def check_source(source: Source) -> None:
    """Raises DataError where a split is malformed, or its images differ in shape."""
    if len(source.class_names) < 2:
        raise DataError(
            f"{source.name}: expected at least two classes, found only "
            f"{', '.join(source.class_names)}. Bring images of another class."
        )
    for name in source.class_names[: MAX_CLASSES + 1]:
        if not (name.isprintable() and 0 < len(name) <= MAX_NAME):
            raise DataError(
                f"{source.name}: expected class names of 1 to {MAX_NAME} letters, "
                f"found {shortened(name)}. Rename it."
            )
    if len(source.class_names) > MAX_CLASSES:
        raise DataError(
            f"{source.name}: expected at most {MAX_CLASSES} classes, found "
            f"{len(source.class_names)}. Choose fewer."
        )
    for name in ("train", "validation", "test"):
        split = getattr(source, name)
        if split is None:
            continue
        check_examples(split, len(source.class_names), f"{source.name}: {name}")
        expected, found = source.train.images.shape[1:], split.images.shape[1:]
        if found != expected:
            raise DataError(
                f"{source.name}: {name}: images: expected shape {list(expected)} as in "
                f"train, found {list(found)}. Bring all splits to one shape."
            )


def save_prepared(source: Source, splits: dict[SplitName, Examples]) -> dict[str, Any]:
    """Writes the three npz files, then the manifest; returns its content."""
    digests = {
        name: write_arrays(paths.PREPARED / f"{name}.npz", split._asdict())
        for name, split in splits.items()
    }
    seen = {name: fingerprints(split) for name, split in splits.items()}
    manifest = {
        "dataset": source.name,
        "version": source.version,
        "class_names": source.class_names,
        "image_shape": list(splits["train"].images.shape[1:]),
        "counts": {
            name: class_counts(split, source.class_names)
            for name, split in splits.items()
        },
        "sha256": digests,
        "in_both": {
            f"{one}_{other}": len(seen[one] & seen[other])
            for one, other in combinations(seen, 2)
        },
    }
    write_record(paths.MANIFEST, manifest)
    return manifest


def load_manifest() -> Manifest:
    """Reads `manifest.json`.

    Raises:
        DataError: it is missing, or lacks a key.
    """
    return read_record(paths.MANIFEST, Manifest, REPAIR)


def open_split(name: SplitName, manifest: Manifest) -> Examples:
    """Placeholder until the branch `data` is merged."""
    return load_split(name, manifest)


def load_split(name: SplitName, manifest: Manifest) -> Examples:
    """Reads one split, after comparing its digest with the manifest's.

    Raises:
        DataError: it is missing, changed or malformed.
    """
    path = paths.PREPARED / f"{name}.npz"
    arrays = read_arrays(path, REPAIR, manifest.sha256.get(name, "none"))
    empty = np.empty(0)
    split = Examples(arrays.get("images", empty), arrays.get("labels", empty))
    check_examples(split, len(manifest.class_names), str(path))
    if split.images.shape[1:] != manifest.image_shape:
        raise DataError(
            f"{path}: images: expected shape {list(manifest.image_shape)} as in "
            f"{paths.MANIFEST}, found {list(split.images.shape[1:])}. {REPAIR}"
        )
    return split
