"""TensorFlow Lite with full 8-bit integer quantization, for microcontrollers.

The file is about a quarter of the float32 file. Activation ranges are calibrated on
training images; the loss of accuracy is measured on the test split.
"""

from collections.abc import Iterator

import numpy as np

from src.export.erf_by_tanh import erf_by_tanh
from src.export.network import Network
from src.export.tf_function import tensorflow_function

FILE = "model_int8.tflite"
RUNTIME: str | None = "ai-edge-litert"
PACKAGES: tuple[str, ...] = ("tensorflow", "ai_edge_litert")
EXACT = False


def convert(network: Network, calibration: np.ndarray) -> dict[str, bytes]:
    """The file; it takes uint8 and returns probabilities in 256ths, as uint8."""
    import tensorflow as tf

    images = calibration.astype(np.float32)
    # Calibration must see 0 and 255: then the input scale is 1 and the zero point 0.
    images[0].flat[0], images[0].flat[-1] = 0, 255

    def representative() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [image[None]]

    network = network._replace(probabilities=erf_by_tanh(network.probabilities))
    function = tensorflow_function(network, batch=1, of_bytes=False)
    concrete = function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], function)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    return {FILE: converter.convert()}
