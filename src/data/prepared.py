"""`data/prepared`: what prepare writes and every later stage reads.

Later stages do not depend on the source of the data. A split of more than `SHARD_BYTES`
continues in its folder of `data/prepared/shards`, so it may be larger than memory.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from src import paths
from src.config.names import BackgroundName, ImageFit
from src.data.duplicates import count_duplicates
from src.data.examples import (
    Examples,
    Origin,
    Source,
    SplitName,
    check_class_names,
    check_examples,
    class_counts,
    select,
)
from src.data.files_csv import files_csv
from src.data.shards import ABOUT, concatenate, find_shards, in_memory, shard_name
from src.data.splitting import check_groups, split_rows
from src.errors import DataError
from src.storage.atomic import AtomicCommit, make_folder
from src.storage.json_files import read_record, record_bytes
from src.storage.lazy_npz import locate_arrays
from src.storage.npz import pack_arrays
from src.storage.reading import digest

PREPARE_AGAIN = "Prepare it again: dvc repro prepare"
SHARD_BYTES = 256 << 20  # pixels in a file, which is packed in memory

ABOUT_TEXT = (
    b"Shards of a split that is too large for one file: see ../../manifest.json.\n"
)

NO_ORIGINS: Mapping[SplitName, Sequence[Origin]] = MappingProxyType({})


class PictureRecord(BaseModel, frozen=True):
    """A `PicturePolicy` in a manifest."""

    size: tuple[int, int]  # height, width
    fit: ImageFit
    channels: Literal[1, 3]
    background: BackgroundName


class Manifest(BaseModel, frozen=True):
    """The keys of `manifest.json` that later stages read; it has others."""

    dataset: str
    version: str
    class_names: list[str]
    image_shape: tuple[int, int, int]  # height, width, channels
    sha256: dict[SplitName, str]  # of each split's first file
    pictures: PictureRecord | None = None  # of a source of picture files
    shards: dict[SplitName, dict[str, str]] = {}  # SHA-256 of the other files, by path

    def files(self, name: SplitName) -> dict[str, str]:
        """The SHA-256 of each file of a split, by path, in order."""
        first = {shard_name(name, 0): self.sha256.get(name, "none")}
        return first | dict(sorted(self.shards.get(name, {}).items()))

    def digest(self, name: SplitName) -> str:
        """One SHA-256 for a split; for a split in one file, that file's."""
        digests = list(self.files(name).values())
        return digests[0] if len(digests) == 1 else digest("\n".join(digests).encode())


def split_source(
    source: Source, fraction: float, seed: int
) -> dict[SplitName, Examples]:
    """The three splits; a missing one is split off from train, stratified by class.

    Args:
        source: the data set.
        fraction: of the training examples for a missing validation split, in (0, 1).
        seed: decides which examples are split off.

    Raises:
        DataError: a split would be empty.
    """
    splits: dict[SplitName, Examples] = {}
    for name, (given, rows) in split_rows(source, fraction, seed).items():
        examples = getattr(source, given)
        splits[name] = examples if rows is None else select(examples, rows)
    empty = [name for name, split in splits.items() if len(split.labels) == 0]
    if empty:
        names = " and ".join(empty)
        raise DataError(
            f"{source.name}: {names}: expected examples, found none: no class of "
            f"the {len(source.train.labels)} training examples has enough to split "
            f"off. Add more images or groups, or {names} data of your own."
        )
    return splits


def check_source(source: Source) -> None:
    """Checks a source before it is split.

    Raises:
        DataError: names or a split are malformed, image shapes differ, or a group is in
            two splits.
    """
    check_groups(source.name, source.origins or {})
    check_class_names(source.name, source.class_names)
    for name in ("train", "validation", "test"):
        split = getattr(source, name)
        if split is None:
            continue
        check_examples(split, len(source.class_names), f"{source.name}: {name}")
        expected, found = source.train.images.shape[1:], split.images.shape[1:]
        if found != expected:
            raise DataError(
                f"{source.name}: {name}: images: expected shape {list(expected)} as in "
                f"train, found {list(found)}. Resize all images to one shape."
            )


def save_prepared(
    source: Source,
    splits: dict[SplitName, Examples],
    outputs: AtomicCommit,
    origins: Mapping[SplitName, Sequence[Origin]] = NO_ORIGINS,
) -> dict[str, Any]:
    """Writes the npz files, files.csv, then the manifest; returns its content.

    Args:
        source: the data set.
        splits: of `split_source`.
        outputs: the commit of all files.
        origins: of `split_origins`; empty for a source of arrays.

    Raises:
        StorageError: a file cannot be written.
    """
    for name in splits:
        folder = paths.SHARDS / name
        make_folder(folder)
        for old in folder.iterdir():  # shards of earlier data; new ones follow below
            outputs.remove(old)
        outputs.write(folder / ABOUT, ABOUT_TEXT)
    digests = {name: save_split(name, split, outputs) for name, split in splits.items()}
    shards = {
        name: {file: files[file] for file in files if file != shard_name(name, 0)}
        for name, files in digests.items()
        if len(files) > 1
    }
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
        "in_both": count_duplicates(splits),
    }
    if shards:
        manifest["shards"] = shards
    if source.pictures is not None:
        manifest["pictures"] = source.pictures._asdict()
    sizes = {name: len(split.labels) for name, split in splits.items()}
    outputs.write(paths.FILES, files_csv(sizes, origins, source.passed_over))
    outputs.write(paths.MANIFEST, record_bytes(manifest))
    return manifest


def save_split(
    name: SplitName, split: Examples, outputs: AtomicCommit
) -> dict[str, str]:
    """Writes a split file by file; returns the SHA-256 of each, by path."""
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
        DataError: the file is missing, was changed, or lacks a key.
    """
    return read_record(paths.MANIFEST, Manifest, PREPARE_AGAIN)


def load_split(name: SplitName, manifest: Manifest) -> Examples:
    """Reads a split into memory.

    Raises:
        DataError: as for `open_split`.
    """
    images, labels = open_split(name, manifest)
    return Examples(images[:], labels)


def open_split(name: SplitName, manifest: Manifest) -> Examples:
    """Opens a split: labels in memory, images as `LazyImages`, read row by row.

    The digest of each file is compared with the manifest's first.

    Raises:
        DataError: a file is missing, changed or malformed, or there are too many.
    """
    files = manifest.files(name)
    expected = [shard_name(name, index) for index in range(len(files))]
    found = [shard_name(name, 0), *find_shards(paths.PREPARED, name)]
    if not list(files) == expected == found:
        raise DataError(
            f"{paths.SHARDS / name}: expected the {len(files) - 1} shards of {name} "
            f"that {paths.MANIFEST} lists, found {len(found) - 1}. {PREPARE_AGAIN}"
        )
    return concatenate(
        [
            (paths.PREPARED / file, open_part(paths.PREPARED / file, sha256, manifest))
            for file, sha256 in files.items()
        ]
    )


def open_part(path: Path, sha256: str, manifest: Manifest) -> Examples:
    """Opens one file of a split and compares it with the manifest.

    Raises:
        DataError: the file is missing, changed or malformed.
    """
    arrays = locate_arrays(path, PREPARE_AGAIN, sha256)
    empty = np.empty(0)
    labels = in_memory(arrays.get("labels", empty))
    part = Examples(arrays.get("images", empty), labels)
    check_examples(part, len(manifest.class_names), str(path))
    if part.images.shape[1:] != manifest.image_shape:
        raise DataError(
            f"{path}: images: expected shape {list(manifest.image_shape)} as in "
            f"{paths.MANIFEST}, found {list(part.images.shape[1:])}. {PREPARE_AGAIN}"
        )
    return part
