"""Makes what the contestants share: Fashion-MNIST and first weights, in a folder.

Runs in the project's own environment: `python -m benchmarks.data FOLDER`. With a number
behind it, arrays of so many training examples: those there are, over and over.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np
from flax import nnx

from benchmarks.task import HIDDEN, PREPARED
from src import paths
from src.data.prepared import load_manifest, load_split, save_prepared, split_source
from src.data.shards import shard_name
from src.models.architecture import Architecture
from src.models.build import build_model
from src.models.checkpoint import weights_of
from src.sources.tfds import load_builder
from src.storage.npz import write_arrays

SHARD = 300_000  # examples in a file


def prepare(folder: Path) -> None:
    """Writes data/prepared as the prepare stage would, and first weights per model."""
    if not (folder / PREPARED / "manifest.json").exists():
        manual = Path(os.environ.get("FOURBEAT_MANUAL_DIR", paths.MANUAL)).resolve()
        source = load_builder("fashion_mnist", manual)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.chdir(folder):
            save_prepared(source, split_source(source, 0.1, seed=0))
    for model, hidden in HIDDEN.items():
        architecture = Architecture(model, hidden, 0.0, (28, 28, 1), classes=10)
        weights = weights_of(build_model(architecture, nnx.Rngs(params=0)))
        write_arrays(folder / f"{model}.npz", weights)


def tile(folder: Path, target: Path, count: int) -> None:
    """Writes arrays for `dataset: npz` into `target`, with `count` training examples.

    They are those of `folder` over and over, a shard at a time: never all in memory.
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
        write_arrays(target / f"{name}.npz", split._asdict())
    for index, start in enumerate(range(0, count, SHARD)):
        rows = np.arange(start, min(start + SHARD, count)) % len(train.labels)
        shard = {"images": train.images[rows], "labels": train.labels[rows]}
        write_arrays(target / shard_name("train", index), shard)


def main() -> None:
    """Makes the shared folder, or a tiled data set from it."""
    match sys.argv[1:]:
        case [folder]:
            prepare(Path(folder))
        case [folder, target, count]:
            tile(Path(folder), Path(target), int(count))


if __name__ == "__main__":
    main()
