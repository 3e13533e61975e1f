"""TensorFlow Lite in 8-bit integers throughout: for microcontrollers and their like.

A quarter of the size, a little more where a network is small. Each layer's range is
taken from training images; what is lost is measured on the test split.
"""

from collections.abc import Iterator

import numpy as np

from src.export.tf_function import tensorflow_function
from src.models.checkpoint import TrainedModel

FILE = "model_int8.tflite"
RUNTIME: str | None = "ai-edge-litert"
PACKAGES: tuple[str, ...] = ("tensorflow", "ai_edge_litert")
EXACT = False


def convert(trained: TrainedModel, calibration: np.ndarray) -> dict[str, bytes]:
    """The file; uint8 goes in and comes out, probabilities in 256ths."""
    import tensorflow as tf

    images = calibration.astype(np.float32)
    # Both ends must be seen once: then a byte stands for itself, 0 to 255.
    images[0].flat[0], images[0].flat[-1] = 0, 255

    def representative() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [image[None]]

    function = tensorflow_function(trained, batch=1, of_bytes=False)
    concrete = function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], function)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    return {FILE: converter.convert()}
