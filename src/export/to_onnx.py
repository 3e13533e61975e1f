"""ONNX with any batch size, for onnxruntime and other runtimes."""

import jax
import jax.numpy as jnp
import numpy as np

from src.models.checkpoint import TrainedModel
from src.models.layer_list import layer_probabilities

FILE = "model.onnx"
RUNTIME: str | None = "onnxruntime"
PACKAGES: tuple[str, ...] = ("onnx", "jax2onnx", "onnxruntime")
EXACT = True
OPSET = 17  # of 2022: runtimes on devices are often old


def convert(trained: TrainedModel, calibration: np.ndarray) -> dict[str, bytes]:
    """The ONNX file, checked by ONNX's own checker."""
    import onnx
    from jax2onnx import to_onnx

    def classify(images: jax.Array) -> jax.Array:
        pixels = images.astype(jnp.float32) / 255
        return layer_probabilities(trained.model.layers(), trained.weights, pixels)

    shape = trained.record.architecture.image_shape
    images = jax.ShapeDtypeStruct(("batch", *shape), jnp.uint8)
    model = to_onnx(
        classify,
        [images],
        model_name="classifier",
        opset=OPSET,
        input_names=["images"],
        output_names=["probabilities"],
    )
    onnx.checker.check_model(model, full_check=True)
    return {FILE: model.SerializeToString()}
