"""Prepares the data that the contestants share: Fashion-MNIST and initial weights.

Runs in the project's environment. `python -m benchmarks.data FOLDER` writes the data;
`... FOLDER TARGET COUNT` repeats its training examples until there are COUNT.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np
from flax import nnx

from benchmarks.task import (
    CONFIGURATIONS,
    FILTERS,
    HIDDEN,
    PREPARED,
    Task,
    weights_file,
)
from src import paths
from src.data.prepared import load_manifest, load_split, save_prepared, split_source
from src.data.shards import shard_name
from src.models.architecture import Architecture
from src.models.build import build_model
from src.models.checkpoint import weights_of
from src.storage.atomic import atomic_commit, replace_file
from src.storage.npz import pack_arrays

SHARD = 300_000  # examples in a file


def prepare(folder: Path) -> None:
    """Writes data/prepared like the prepare stage, and each model's initial weights."""
    from src.sources.tfds import load_builder  # imports TensorFlow

    if not (folder / PREPARED / "manifest.json").exists():
        manual = Path(os.environ.get("FOURBEAT_MANUAL_DIR", paths.MANUAL)).resolve()
        source = load_builder("fashion_mnist", manual)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.chdir(folder), atomic_commit() as outputs:
            save_prepared(source, split_source(source, 0.1, seed=0), outputs)
    for model, side in CONFIGURATIONS:
        shape = Task(model, 1, folder, side).image_shape
        filters = FILTERS if model == "resnet" else None
        architecture = Architecture(model, HIDDEN[model], 0.0, shape, 10, filters, 1)
        weights = weights_of(build_model(architecture, nnx.Rngs(params=0)))
        replace_file(folder / weights_file(model, side), pack_arrays(weights))


def tile(folder: Path, target: Path, count: int) -> None:
    """Writes `count` training examples for `dataset: npz` into `target`.

    They repeat those of `folder`. One shard is in memory at a time.
    """
    with contextlib.chdir(folder):
        manifest = load_manifest()
        train, *others = (
            load_split(name, manifest) for name in ("train", "validation", "test")
        )
    (target / "shards/train").mkdir(parents=True)
    names = {"class_names": manifest.class_names}
    (target / "manifest.json").write_text(json.dumps(names))
    for name, split in zip(("validation", "test"), others, strict=True):
        replace_file(target / f"{name}.npz", pack_arrays(split._asdict()))
    for index, start in enumerate(range(0, count, SHARD)):
        rows = np.arange(start, min(start + SHARD, count)) % len(train.labels)
        shard = {"images": train.images[rows], "labels": train.labels[rows]}
        replace_file(target / shard_name("train", index), pack_arrays(shard))


def main() -> None:
    """Writes the shared folder, or a larger data set from it."""
    match sys.argv[1:]:
        case [folder]:
            prepare(Path(folder))
        case [folder, target, count]:
            tile(Path(folder), Path(target), int(count))


if __name__ == "__main__":
    main()
