"""TensorFlow Lite in float32, one image per call: for phones and small Linux boards."""

import numpy as np

from src.export.network import Network
from src.export.tf_function import tensorflow_function

FILE = "model.tflite"
RUNTIME: str | None = "ai-edge-litert"
PACKAGES: tuple[str, ...] = ("tensorflow", "ai_edge_litert")
EXACT = True


def convert(network: Network, calibration: np.ndarray) -> dict[str, bytes]:
    """The file; it uses only built-in operations of TensorFlow Lite."""
    import tensorflow as tf

    function = tensorflow_function(network, batch=1, of_bytes=True)
    concrete = function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], function)
    return {FILE: converter.convert()}
