"""NumPy alone: the weights, and one Python file that computes the network."""

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
    """The predictor and the weights; the layers are in manifest.json."""
    return {
        FILE: Path(numpy_predictor.__file__).read_bytes(),
        "weights.npz": bytes(pack_arrays(trained.weights)),
    }
