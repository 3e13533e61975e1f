"""ONNX with any batch size, for onnxruntime, OpenCV and other runtimes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from src.export.graph import INPUT, OUTPUT
from src.export.network import Network
from src.export.onnx_file import OPSET, onnx_model

FILE = "model.onnx"
RUNTIME: str | None = "onnxruntime"
PACKAGES: tuple[str, ...] = ("onnx", "jax2onnx", "onnxruntime")
EXACT = True


def convert(network: Network, calibration: np.ndarray) -> dict[str, bytes]:
    """The ONNX file: of the graph or, if there is none, as jax2onnx makes it."""
    architecture = network.trained.record.architecture
    if network.graph is None:
        model = convert_by_jax2onnx(network)
    else:
        shape, classes = architecture.image_shape, architecture.classes
        model = onnx_model(network.graph, shape, classes)
    return {FILE: model.SerializeToString()}


def convert_by_jax2onnx(network: Network) -> Any:  # noqa: ANN401 - onnx has no types
    """The model of a network with operations that `graph` lacks."""
    import onnx
    from jax2onnx import to_onnx

    shape = network.trained.record.architecture.image_shape
    images = jax.ShapeDtypeStruct(("batch", *shape), jnp.uint8)
    own = dict(vars(jnp))
    try:
        model = to_onnx(
            network.probabilities,
            [images],
            model_name="classifier",
            opset=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
        )
    finally:
        vars(jnp).update(own)  # jax2onnx 0.17 leaves its own `cumsum` there
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    # jax2onnx moves transpositions and keeps the shapes from before.
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model
