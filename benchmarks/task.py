"""What all contestants share: images, their order, initial weights and the recipe."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.config.load import load_params
from src.runtime.cpu_devices import VARIABLE, cpu_devices

# The tutorial's recipe: optax.adamw(0.005, 0.9), which decays every weight by 1e-4.
LEARNING_RATE, WEIGHT_DECAY = 0.005, 1e-4
PREPARED = Path("data/prepared")  # in the shared folder
HIDDEN = {"mlp": 256, "cnn": 256, "cnn_max": 128, "resnet": None}
FILTERS = 32  # of the first stage of resnet
RESIDUAL_LAYERS = [  # with a kernel, in the order of PyTorch's modules
    "stem.layers.0.conv",
    *(
        f"blocks.{block}.{layer}.conv"
        for block in range(3)
        for layer in ("first", "second", "shortcut")[: 3 if block else 2]
    ),
    "output",
]
SIDE = 28  # pixels, of Fashion-MNIST
CONFIGURATIONS = (
    *((model, SIDE) for model in ("mlp", "cnn", "cnn_max")),
    *(("resnet", side) for side in (32, 64)),
)
ENLARGED = 8192  # examples, where images are made larger


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
    """A network, a batch size, the shared folder, and the side of the images.

    Images of another side than 28 are enlarged, in three equal channels.
    """

    model: str
    batch: int
    folder: Path
    side: int = SIDE

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.side, self.side, 1 if self.side == SIDE else 3

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Training images uint8 `[n, *image_shape]` and labels int32 `[n]`."""
        images, labels = load_split(self.folder, "train")
        if self.side == SIDE:
            return images, labels
        return enlarge(images[:ENLARGED], self.side), labels[:ENLARGED]

    def rows(self, steps: int) -> np.ndarray:
        """Row indices of each step's batch, int32 `[steps, batch]`.

        Within an epoch each example occurs at most once.
        """
        count = len(load_array(self.folder, "train", "labels"))
        if self.side != SIDE:
            count = min(count, ENLARGED)
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
        with np.load(self.folder / weights_file(self.model, self.side)) as arrays:
            return dict(arrays)


def devices(task: Task) -> dict[str, str]:
    """The environment in which Fourbeat has the devices of its train stage."""
    changes = {"model": task.model, "batch_size": task.batch}
    params = load_params(Path("params.yaml")).model_copy(update=changes)
    return {VARIABLE: str(cpu_devices(params, task.image_shape))}


def patch_side(side: int) -> int:
    """The side of the squares that `resnet` takes as pixels, as in its stem."""
    return 2 if side >= 48 else 1


def weights_file(model: str, side: int) -> str:
    """The name of the file of initial weights."""
    return f"{model}.npz" if side == SIDE else f"{model}_{side}.npz"


def enlarge(images: np.ndarray, side: int) -> np.ndarray:
    """Repeats pixels and frames them in black: uint8 `[n, side, side, 3]`."""
    factor = side // SIDE
    before = (side - factor * SIDE) // 2
    after = side - factor * SIDE - before
    larger = images.repeat(factor, 1).repeat(factor, 2).repeat(3, 3)
    return np.pad(larger, ((0, 0), (before, after), (before, after), (0, 0)))
