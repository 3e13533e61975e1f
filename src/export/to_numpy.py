"""NumPy alone: the graph's constants, and one Python file that runs the graph."""

from pathlib import Path

import numpy as np

from src.export.graph import UnsupportedError
from src.export.network import Network
from src.export.shipped import numpy_predictor
from src.storage.npz import pack_arrays

FILE = "numpy_predictor.py"
RUNTIME: str | None = None
PACKAGES: tuple[str, ...] = ("onnx", "jax2onnx")
EXACT = True


def convert(network: Network, calibration: np.ndarray) -> dict[str, bytes]:
    """The predictor and the constants; the graph is in manifest.json.

    Raises:
        UnsupportedError: the predictor lacks an operator of the network.
    """
    if isinstance(network.graph, str):
        raise UnsupportedError(network.graph)
    return {
        FILE: Path(numpy_predictor.__file__).read_bytes(),
        "constants.npz": bytes(pack_arrays(network.graph.constants)),
    }
