"""Converts a network to ONNX with jax2onnx."""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.export.graph import INPUT, OUTPUT, UnsupportedError

Proto = Any  # onnx has no types

OPSET = 18  # with 17, jax2onnx makes invalid files of RMSNorm: its axes are of 18
DROPOUT = nnx.Dropout.__call__
# Plugins for another library, and examples. To import them compiles many networks.
UNUSED_PLUGINS = "jax2onnx.plugins.equinox", "jax2onnx.plugins.examples"


def convert_by_jax2onnx(
    probabilities: Callable[[jax.Array], jax.Array], image_shape: tuple[int, int, int]
) -> Proto:
    """The ONNX model of a network, with any batch size.

    Args:
        probabilities: float32 `[batch, classes]` of uint8 `[batch, *image_shape]`.
        image_shape: height, width, channels.

    Raises:
        Exception: jax2onnx cannot convert the network; any class.
    """
    import onnx
    from jax2onnx import to_onnx

    # jax2onnx imports all its plugins, and warns of each that fails, as these do now.
    sys.modules.update(dict.fromkeys(UNUSED_PLUGINS))  # type: ignore[arg-type]
    logging.getLogger("jax2onnx").setLevel(logging.ERROR)

    def network(images: jax.Array) -> jax.Array:
        accept_documented_calls()
        return probabilities(images)

    images = jax.ShapeDtypeStruct(("batch", *image_shape), jnp.uint8)
    names = {"input_names": [INPUT], "output_names": [OUTPUT]}
    own = {module: dict(vars(module)) for module in (jnp, nnx)}
    # jax2onnx's own code broadcasts and warns.
    with jax.numpy_rank_promotion("allow"), warnings.catch_warnings(action="ignore"):
        try:
            model = to_onnx(
                network, [images], model_name="classifier", opset=OPSET, **names
            )
        finally:  # jax2onnx 0.17 leaves its own `cumsum` in `jax.numpy`
            for module, functions in own.items():
                vars(module).update(functions)
            nnx.Dropout.__call__ = DROPOUT  # type: ignore[method-assign]
    # Runtimes refuse a newer IR version than they know, so take the oldest possible.
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    # jax2onnx moves transpositions and keeps the shapes from before.
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def accept_documented_calls() -> None:
    """Lets a network call Flax as its documentation says while jax2onnx traces it.

    jax2onnx replaces functions of Flax for that time. Its poolings misread padding in
    pixels and missing strides; its dropout knows no `rngs`. (Dropout is off anyway.)
    """
    nnx.avg_pool = documented_pool(nnx.avg_pool, 0)
    nnx.max_pool = documented_pool(nnx.max_pool, float(np.finfo(np.float32).min))
    nnx.Dropout.__call__ = DROPOUT  # type: ignore[method-assign]


def documented_pool(pool: Callable[..., jax.Array], filling: float) -> Any:  # noqa: ANN401
    """A pooling of jax2onnx with the arguments and defaults of Flax.

    Args:
        pool: it understands padding by name, and all strides.
        filling: value of the padding.
    """

    def documented(
        inputs: jax.Array,
        window_shape: Sequence[int],
        strides: Sequence[int] | None = None,
        padding: str | Sequence[tuple[int, int]] = "VALID",
        **options: bool,
    ) -> jax.Array:
        strides = strides or (1,) * len(window_shape)
        if not isinstance(padding, str):
            if not options.get("count_include_pad", True):
                raise UnsupportedError("avg_pool without its explicit padding")
            around = ((0, 0), *padding, (0, 0))
            inputs, padding = jnp.pad(inputs, around, constant_values=filling), "VALID"
        given = {"window_shape": window_shape, "strides": strides, "padding": padding}
        return pool(inputs, **given, **options)

    return documented
