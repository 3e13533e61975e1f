"""TensorFlow Lite in float32, one image per call: for phones and small Linux boards."""

import numpy as np

from src.export.network import Network
from src.export.stablehlo import program_for_tensorflow
from src.export.tensorflow_converter import Program

FILE = "model.tflite"
RUNTIME: str | None = "ai-edge-litert"
PACKAGES: tuple[str, ...] = ("tensorflow", "ai_edge_litert")
EXACT = True


def convert(network: Network, calibration: np.ndarray) -> Program:
    """What TensorFlow makes the file of; it has built-in operations only."""
    return program_for_tensorflow(network, FILE, batch=1)
