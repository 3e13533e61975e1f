"""Makes what the contestants share: Fashion-MNIST and first weights, in a folder.

Runs in the project's own environment: `python -m benchmarks.data FOLDER`. With a number
behind it, a data set of so many training examples: those there are, over and over.
"""

import contextlib
import os
import sys
from pathlib import Path

import numpy as np
from flax import nnx

from benchmarks.task import HIDDEN, PREPARED
from src import paths
from src.checkpoint import weights_of
from src.data.prepared import divide, load_manifest, load_split, save_prepared
from src.data.split import Examples, Source
from src.data.tfds import load_builder
from src.models import build_model
from src.models.architecture import Architecture
from src.npz import write_arrays


def prepare(folder: Path) -> None:
    """Writes data/prepared as the prepare stage would, and first weights per model."""
    if not (folder / PREPARED / "manifest.json").exists():
        manual = Path(os.environ.get("FOURBEAT_MANUAL_DIR", paths.MANUAL)).resolve()
        source = load_builder("fashion_mnist", manual)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.chdir(folder):
            save_prepared(source, divide(source, 0.1, seed=0))
    for model, hidden in HIDDEN.items():
        architecture = Architecture(model, hidden, 0.0, (28, 28, 1), classes=10)
        weights = weights_of(build_model(architecture, nnx.Rngs(params=0)))
        write_arrays(folder / f"{model}.npz", weights)


def repeat(folder: Path, target: Path, count: int) -> None:
    """Writes `target`/data/prepared with `count` training examples."""
    with contextlib.chdir(folder):
        manifest = load_manifest()
        train, validation, test = (
            Examples(*load_split(name, manifest))
            for name in ("train", "validation", "test")
        )
    rows = np.arange(count) % len(train.labels)
    many = Examples(train.images[rows], train.labels[rows])
    source = Source("repeated", "1", manifest.class_names, many, validation, test)
    target.mkdir(parents=True)
    with contextlib.chdir(target):
        save_prepared(source, {"train": many, "validation": validation, "test": test})


def main() -> None:
    """Makes the shared folder, or a repeated data set from it."""
    match sys.argv[1:]:
        case [folder]:
            prepare(Path(folder))
        case [folder, target, count]:
            repeat(Path(folder), Path(target), int(count))


if __name__ == "__main__":
    main()
