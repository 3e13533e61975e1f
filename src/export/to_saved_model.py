"""TensorFlow SavedModel with any batch size; `serving_default` takes `images`."""

import numpy as np

from src.export.network import Network
from src.export.stablehlo import program_for_tensorflow
from src.export.tensorflow_converter import Program

FILE = "saved_model"
RUNTIME: str | None = "tensorflow"
PACKAGES: tuple[str, ...] = ("tensorflow",)
EXACT = True


def convert(network: Network, calibration: np.ndarray) -> Program:
    """What TensorFlow makes the files of the folder of."""
    return program_for_tensorflow(network, FILE, batch=None)
