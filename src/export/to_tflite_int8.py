"""TensorFlow Lite with full 8-bit integer quantization, for microcontrollers.

The file is about a quarter of the float32 file. Activation ranges are calibrated on
training images; the loss of accuracy is measured on the test split.
"""

from dataclasses import replace

import numpy as np

from src.export.erf_by_tanh import erf_by_tanh
from src.export.network import Network
from src.export.stablehlo import program_for_tensorflow
from src.export.tensorflow_converter import Program

FILE = "model_int8.tflite"
RUNTIME: str | None = "ai-edge-litert"
PACKAGES: tuple[str, ...] = ("tensorflow", "ai_edge_litert")
EXACT = False


def convert(network: Network, calibration: np.ndarray) -> Program:
    """What TensorFlow makes the file of; it returns probabilities in 256ths."""
    network = replace(network, probabilities=erf_by_tanh(network.probabilities))
    return program_for_tensorflow(network, FILE, batch=1, calibration=calibration)
