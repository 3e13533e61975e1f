"""`data/prepared`: what prepare writes and every later stage reads.

Behind this door nobody asks where the data came from. A split of more than
`SHARD_BYTES` goes on in its folder of `data/prepared/shards`: it may be larger than
memory.
"""

import math
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from src import paths
from src.data.examples import (
    Examples,
    Source,
    check_examples,
    class_counts,
    image_hashes,
    select,
    stratified_split,
)
from src.data.shards import ABOUT, concatenate, find_shards, in_memory, shard_name
from src.errors import DataError, shortened
from src.storage.atomic import AtomicCommit, make_folder
from src.storage.json_files import read_record, record_bytes
from src.storage.lazy_npz import locate_arrays
from src.storage.npz import pack_arrays
from src.storage.reading import digest

REPAIR = "Make it anew: dvc repro prepare"
MAX_CLASSES, MAX_NAME = 10_000, 100  # letters
TEST_FRACTION = 0.2  # of a source that brings no test split
CUT_TEST, CUT_VALIDATION = 1, 2  # streams of the seed
SHARD_BYTES = 256 << 20  # of pixels in a file: it is packed in memory

TEXT = (
    b"Here a split goes on that is too large for one file: see ../../manifest.json.\n"
)

SplitName = Literal["train", "validation", "test"]


class Manifest(BaseModel, frozen=True):
    """What later stages need of `manifest.json`."""

    dataset: str
    version: str
    class_names: list[str]
    image_shape: tuple[int, int, int]  # height, width, channels
    sha256: dict[SplitName, str]  # of each npz, by split
    shards: dict[SplitName, dict[str, str]] = {}  # the same of those that go on with it

    def files(self, name: SplitName) -> dict[str, str]:
        """The SHA-256 of each file of a split, by its name, in order."""
        first = {shard_name(name, 0): self.sha256.get(name, "none")}
        return first | dict(sorted(self.shards.get(name, {}).items()))

    def digest(self, name: SplitName) -> str:
        """One SHA-256 for all of a split: its file's own, where it has one file."""
        digests = list(self.files(name).values())
        return digests[0] if len(digests) == 1 else digest("\n".join(digests).encode())


def divide(source: Source, fraction: float, seed: int) -> dict[SplitName, Examples]:
    """Cuts what the source lacks from its train split, stratified and seeded.

    Raises:
        DataError: there are too few examples to cut from.
    """
    train, validation, test = source.train, source.validation, source.test
    if test is None:
        rest, rows = stratified_split(train, TEST_FRACTION, (seed, CUT_TEST))
        train, test = select(train, rest), select(train, rows)
    if validation is None:
        rest, rows = stratified_split(train, fraction, (seed, CUT_VALIDATION))
        train, validation = select(train, rest), select(train, rows)
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


def save_prepared(
    source: Source, splits: dict[SplitName, Examples], outputs: AtomicCommit
) -> dict[str, Any]:
    """Writes the npz files, then the manifest; returns its content."""
    for name in splits:
        folder = paths.SHARDS / name
        make_folder(folder)
        for old in folder.iterdir():  # all: what is written below takes its place anew
            outputs.remove(old)
        outputs.write(folder / ABOUT, TEXT)
    digests = {name: save_split(name, split, outputs) for name, split in splits.items()}
    shards = {
        name: {file: files[file] for file in files if file != shard_name(name, 0)}
        for name, files in digests.items()
        if len(files) > 1
    }
    seen = {name: image_hashes(split.images) for name, split in splits.items()}
    manifest = {
        "dataset": source.name,
        "version": source.version,
        "class_names": source.class_names,
        "image_shape": list(splits["train"].images.shape[1:]),
        "counts": {
            name: class_counts(split, source.class_names)
            for name, split in splits.items()
        },
        "sha256": {name: files[shard_name(name, 0)] for name, files in digests.items()},
        "in_both": {
            f"{one}_{other}": len(np.intersect1d(seen[one], seen[other], True))
            for one, other in combinations(seen, 2)
        },
    }
    if shards:
        manifest["shards"] = shards
    outputs.write(paths.MANIFEST, record_bytes(manifest))
    return manifest


def save_split(
    name: SplitName, split: Examples, outputs: AtomicCommit
) -> dict[str, str]:
    """Writes a split, a shard after the other; returns their digests by name."""
    pixels = math.prod(split.images.shape[1:])
    size = max(SHARD_BYTES // pixels, 1)
    digests = {}
    for index, start in enumerate(range(0, len(split.labels), size)):
        rows = slice(start, start + size)
        file = shard_name(name, index)
        shard = pack_arrays(
            {"images": split.images[rows], "labels": split.labels[rows]}
        )
        outputs.write(paths.PREPARED / file, shard)
        digests[file] = digest(shard)
    return digests


def load_manifest() -> Manifest:
    """Reads `manifest.json`.

    Raises:
        DataError: it is missing, or lacks a key.
    """
    return read_record(paths.MANIFEST, Manifest, REPAIR)


def load_split(name: SplitName, manifest: Manifest) -> Examples:
    """Reads one split into memory; as `open_split`.

    Raises:
        DataError: as there.
    """
    images, labels = open_split(name, manifest)
    return Examples(images[:], labels)


def open_split(name: SplitName, manifest: Manifest) -> Examples:
    """One split, of which only the labels are in memory: images are read by row.

    All digests are compared with the manifest's first.

    Raises:
        DataError: a file is missing, changed, malformed, or one too many.
    """
    files = manifest.files(name)
    expected = [shard_name(name, index) for index in range(len(files))]
    found = [shard_name(name, 0), *find_shards(paths.PREPARED, name)]
    if not list(files) == expected == found:
        raise DataError(
            f"{paths.SHARDS / name}: expected the {len(files) - 1} shards of {name} "
            f"that {paths.MANIFEST} lists, found {len(found) - 1}. {REPAIR}"
        )
    return concatenate(
        [
            (paths.PREPARED / file, open_part(paths.PREPARED / file, sha256, manifest))
            for file, sha256 in files.items()
        ]
    )


def open_part(path: Path, sha256: str, manifest: Manifest) -> Examples:
    """One file of a split, compared with the manifest.

    Raises:
        DataError: it is missing, changed or malformed.
    """
    arrays = locate_arrays(path, REPAIR, sha256)
    empty = np.empty(0)
    labels = in_memory(arrays.get("labels", empty))
    part = Examples(arrays.get("images", empty), labels)
    check_examples(part, len(manifest.class_names), str(path))
    if part.images.shape[1:] != manifest.image_shape:
        raise DataError(
            f"{path}: images: expected shape {list(manifest.image_shape)} as in "
            f"{paths.MANIFEST}, found {list(part.images.shape[1:])}. {REPAIR}"
        )
    return part
