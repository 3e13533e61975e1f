"""Makes what the contestants share: Fashion-MNIST and first weights, in `.data`.

Runs in the project's own environment: `python -m benchmarks.data FOLDER`.
"""

import os
import sys
from pathlib import Path

import numpy as np
from flax import nnx

from benchmarks.task import HIDDEN
from src import paths
from src.checkpoint import weights_of
from src.data.prepared import divide
from src.data.tfds import load_builder
from src.files import write_arrays
from src.models import build_model
from src.models.architecture import Architecture


def main() -> None:
    """Writes train.npz, validation.npz, test.npz and a file of weights per model."""
    folder = Path(sys.argv[1])
    if not (folder / "test.npz").exists():
        manual = Path(os.environ.get("FOURBEAT_MANUAL_DIR", paths.MANUAL))
        source = load_builder("fashion_mnist", manual)
        for name, split in divide(source, 0.1, seed=0).items():
            write_arrays(folder / f"{name}.npz", split._asdict())
    for model, hidden in HIDDEN.items():
        architecture = Architecture(model, hidden, 0.0, (28, 28, 1), classes=10)
        weights = weights_of(build_model(architecture, nnx.Rngs(params=0)))
        write_arrays(folder / f"{model}.npz", weights)
    sizes = {path.name: len(np.load(path)["labels"]) for path in [folder / "train.npz"]}
    print(f"benchmarks: {folder}: {sizes}")


if __name__ == "__main__":
    main()
