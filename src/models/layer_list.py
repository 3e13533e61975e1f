"""A network as a list of plain layers: what converters and other languages can read.

`Model.layers` says it, `models/export/manifest.json` carries it, and each of JAX, numpy
and JavaScript has a small function that plays it. Every export is compared with the
network itself, so a list that tells another story than `__call__` does not pass.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

Kind = Literal["convolve", "relu", "average_pool", "max_pool", "flatten", "dense"]

Weights = Mapping[str, np.ndarray]  # by path in the network: "conv1.kernel"
WINDOW = (2, 2)  # of both poolings, and their strides: an odd edge is lost


class Layer(NamedTuple):
    """One operation on float32 `[batch, height, width, channels]`, or on `[batch, n]`.

    `convolve` has stride 1 and pads to the same size; `weights` is the layer that its
    kernel and bias belong to, as in "conv1.kernel" and "conv1.bias".
    """

    kind: Kind
    weights: str = ""


def probabilities(
    layers: list[Layer], weights: Weights, pixels: jax.Array
) -> jax.Array:
    """Float32 `[batch, classes]` of pixels in [0, 1], by operations of JAX's own.

    The networks themselves compute convolutions in forms that are fast to train on a
    CPU, and that no other runtime would recognise as one operation.
    """
    hidden = pixels
    for kind, name in layers:
        hidden = apply_layer(kind, hidden, weights, name)
    return jax.nn.softmax(hidden)


def apply_layer(
    kind: Kind, hidden: jax.Array, weights: Weights, name: str
) -> jax.Array:
    """One layer's outputs."""
    match kind:
        case "convolve":
            kernel, bias = weights[f"{name}.kernel"], weights[f"{name}.bias"]
            dimensions = ("NHWC", "HWIO", "NHWC")
            outputs = lax.conv_general_dilated(
                hidden,
                jnp.asarray(kernel),
                (1, 1),
                "SAME",
                dimension_numbers=dimensions,
            )
            return outputs + bias.reshape(1, 1, 1, -1)
        case "dense":
            kernel, bias = weights[f"{name}.kernel"], weights[f"{name}.bias"]
            return hidden @ kernel + bias.reshape(1, -1)
        case "relu":
            return jax.nn.relu(hidden)
        case "average_pool":
            return nnx.avg_pool(hidden, window_shape=WINDOW, strides=WINDOW)
        case "max_pool":
            return nnx.max_pool(hidden, window_shape=WINDOW, strides=WINDOW)
        case "flatten":
            return hidden.reshape(hidden.shape[0], -1)
    raise ValueError(f"{kind}: no kind of layer that is known here")
