"""`data/prepared`: what prepare writes and every later stage reads.

Behind this door nobody asks where the data came from.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

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
from src.files import read_arrays, read_json, write_arrays, write_json

REPAIR = "Make it anew: dvc repro prepare"
TEST_FRACTION = 0.2  # of a source that brings no test split
CUT_TEST, CUT_VALIDATION = 1, 2  # streams of the seed

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says of the prepared data."""

    dataset: str
    version: str
    class_names: list[str]
    image_shape: tuple[int, int, int]  # height, width, channels
    digests: dict[str, str]  # SHA-256 of each npz, by split


def divide(source: Source, fraction: float, seed: int) -> dict[SplitName, Examples]:
    """Cuts what the source lacks from its train split, stratified and seeded."""
    train, validation, test = source.train, source.validation, source.test
    if test is None:
        rest, rows = cut(train, TEST_FRACTION, (seed, CUT_TEST))
        train, test = take(train, rest), take(train, rows)
    if validation is None:
        rest, rows = cut(train, fraction, (seed, CUT_VALIDATION))
        train, validation = take(train, rest), take(train, rows)
    return {"train": train, "validation": validation, "test": test}


def check_source(source: Source) -> None:
    """Raises DataError where a split is malformed, or its images differ in shape."""
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
    write_json(paths.MANIFEST, manifest)
    return manifest


def load_manifest() -> Manifest:
    """Reads `manifest.json`.

    Raises:
        DataError: it is missing or lacks a key.
    """
    content = read_json(paths.MANIFEST, REPAIR)
    try:
        height, width, channels = content["image_shape"]
        return Manifest(
            dataset=content["dataset"],
            version=content["version"],
            class_names=content["class_names"],
            image_shape=(height, width, channels),
            digests=content["sha256"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{paths.MANIFEST}: expected a manifest as prepare writes it, "
            f"found none in {error}. {REPAIR}"
        ) from None


def load_split(name: SplitName, manifest: Manifest) -> Examples:
    """Reads one split, after comparing its digest with the manifest's.

    Raises:
        DataError: it is missing, changed or malformed.
    """
    path = paths.PREPARED / f"{name}.npz"
    arrays = read_arrays(path, REPAIR, sha256=str(manifest.digests.get(name)))
    empty = np.empty(0)
    split = Examples(arrays.get("images", empty), arrays.get("labels", empty))
    check_examples(split, len(manifest.class_names), str(path))
    return split
