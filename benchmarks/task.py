"""What all contestants share: images, their order, initial weights and the recipe."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

# The tutorial's recipe: optax.adamw(0.005, 0.9), which decays every weight by 1e-4.
LEARNING_RATE, WEIGHT_DECAY = 0.005, 1e-4
PREPARED = Path("data/prepared")  # in the shared folder
HIDDEN = {"mlp": 256, "cnn": 256, "cnn_max": 128}


def load_split(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[n, 28, 28, 1]` and labels int32 `[n]` of a split."""
    return load_array(folder, name, "images"), load_array(folder, name, "labels")


def load_array(folder: Path, name: str, key: str) -> np.ndarray:
    """One array of a split, read from all its shards."""
    prepared, arrays = folder / PREPARED, []
    shards = sorted(prepared.glob(f"shards/{name}/*.npz"))
    for path in (prepared / f"{name}.npz", *shards):
        with np.load(path) as file:
            arrays.append(file[key])
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


@dataclass(frozen=True)
class Task:
    """A network, a batch size and the shared folder."""

    model: str
    batch: int
    folder: Path

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Training images uint8 `[n, 28, 28, 1]` and labels int32 `[n]`."""
        return load_split(self.folder, "train")

    def rows(self, steps: int) -> np.ndarray:
        """Row indices of each step's batch, int32 `[steps, batch]`.

        Within an epoch each example occurs at most once.
        """
        count = len(load_array(self.folder, "train", "labels"))
        per_epoch = count // self.batch
        epochs = [
            np.random.default_rng((0, epoch)).permutation(count)[
                : per_epoch * self.batch
            ]
            for epoch in range(-(-steps // per_epoch))
        ]
        order = np.concatenate(epochs).reshape(-1, self.batch)
        return order[:steps].astype(np.int32)

    def weights(self) -> dict[str, np.ndarray]:
        """Initial weights by name; kernels `[..., in, out]` as in Flax and Keras."""
        with np.load(self.folder / f"{self.model}.npz") as arrays:
            return dict(arrays)
