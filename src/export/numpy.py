"""Numpy alone: the weights, which lie there anyway, and one file that plays them."""

from pathlib import Path

import numpy as np

from src.export.shipped import numpy_predictor
from src.models.checkpoint import TrainedModel
from src.storage.npz import pack_arrays

FILE = "numpy_predictor.py"
RUNTIME: str | None = None
PACKAGES: tuple[str, ...] = ()
EXACT = True


def convert(trained: TrainedModel, calibration: np.ndarray) -> dict[str, bytes]:
    """The file and the weights; the list of layers is in manifest.json."""
    return {
        FILE: Path(numpy_predictor.__file__).read_bytes(),
        "weights.npz": bytes(pack_arrays(trained.weights)),
    }
