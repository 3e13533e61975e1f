"""The formats by name, and the folder that they are written to."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from src import paths
from src.checkpoint import Trained
from src.config import FormatName
from src.data.split import Examples
from src.errors import DataError
from src.export import stablehlo
from src.files import digest, write_json
from src.models import Model
from src.npz import write_arrays
from src.storage import remove, written

TOLERANCE = 1e-5  # largest difference in probability that rounding may make
BATCH = 256  # examples per call when comparing: memory, not results

Predictor = Callable[[np.ndarray], np.ndarray]


class Format(Protocol):
    """What a module of this package offers."""

    FILE: str

    def write(
        self, model: Model, image_shape: tuple[int, int, int], path: Path
    ) -> None:
        """Writes the file: preprocessing and softmax are inside."""

    def load(self, path: Path) -> Predictor:
        """Uint8 `[batch, height, width, channels]` to float32 `[batch, classes]`."""


def format_module(name: FormatName) -> Format:
    """The module of a format."""
    match name:
        case "stablehlo":
            return stablehlo


def write_export(
    names: Sequence[FormatName], trained: Trained
) -> dict[FormatName, Predictor]:
    """Writes `models/export` anew: a file per format, the weights, the manifest.

    Returns:
        Each format's function, read back from its file.
    """
    for old in paths.EXPORT.iterdir() if paths.EXPORT.is_dir() else []:
        remove(old)
    architecture = trained.record.architecture
    weights_digest = write_arrays(paths.EXPORT / "weights.npz", trained.weights)
    predictors: dict[FormatName, Predictor] = {}
    files = {}
    for name in names:
        module = format_module(name)
        path = paths.EXPORT / module.FILE
        module.write(trained.model, architecture.image_shape, path)
        predictors[name] = module.load(written(path))
        sha256 = digest(written(path).read_bytes())
        files[name] = {"file": module.FILE, "sha256": sha256}
    write_json(
        paths.EXPORT / "manifest.json",
        {
            "input": {
                "type": "uint8",
                "shape": ["batch", *architecture.image_shape],
                "layout": "batch, height, width, channels",
            },
            "output": {
                "type": "float32",
                "shape": ["batch", architecture.classes],
                "meaning": "probability of each class",
            },
            "class_names": trained.record.class_names,
            "formats": files,
            "layers": [layer._asdict() for layer in trained.model.layers()],
            "weights": {"file": "weights.npz", "sha256": weights_digest},
            "model": trained.record.model_dump(mode="json"),
        },
    )
    return predictors


def compare(
    name: FormatName, predictor: Predictor, test: Examples, expected: np.ndarray
) -> dict[str, Any]:
    """Runs an exported file on the whole test split.

    Args:
        name: the format, for the error.
        predictor: the function read back from the file.
        test: the images and what they show.
        expected: the trained network's probabilities, `[examples, classes]`.

    Returns:
        The file's size in bytes, its accuracy, and its largest difference from
        `expected`.

    Raises:
        DataError: that difference is above `TOLERANCE`.
    """
    path = paths.EXPORT / format_module(name).FILE
    found = np.concatenate(
        [
            predictor(test.images[start : start + BATCH])
            for start in range(0, len(test.images), BATCH)
        ]
    )
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:  # a NaN is not equal either
        raise DataError(
            f"{path}: expected the trained network's probabilities within {TOLERANCE}, "
            f"found a difference of {difference:.2g}. The file must not be shipped."
        )
    return {
        "bytes": written(path).stat().st_size,
        "accuracy": float((found.argmax(1) == test.labels).mean()),
        "largest_difference": difference,
    }
