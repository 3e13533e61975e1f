"""ONNX with any batch size, for onnxruntime, OpenCV and other runtimes."""

import numpy as np

from src.export.jax_to_onnx import convert_by_jax2onnx
from src.export.network import Network
from src.export.onnx_file import onnx_model

FILE = "model.onnx"
RUNTIME: str | None = "onnxruntime"
PACKAGES: tuple[str, ...] = ("onnx", "jax2onnx", "onnxruntime")
EXACT = True


def convert(network: Network, calibration: np.ndarray) -> dict[str, bytes]:
    """The ONNX file: of the graph or, if there is none, as jax2onnx makes it."""
    architecture = network.trained.record.architecture
    shape, classes = architecture.image_shape, architecture.classes
    if isinstance(network.graph, str):
        model = convert_by_jax2onnx(network.probabilities, shape)
    else:
        model = onnx_model(network.graph, shape, classes)
    return {FILE: model.SerializeToString()}
