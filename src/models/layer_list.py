"""A network as a list of plain layers, for converters and other languages.

`Model.layers` returns the list and `models/export/manifest.json` stores it. JAX, numpy
and JavaScript each have a small function that runs it. Export compares its files with
the network itself, so it refuses a list that differs from `__call__`.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

Kind = Literal["convolve", "relu", "average_pool", "max_pool", "flatten", "dense"]

Weights = Mapping[str, np.ndarray]  # by path in the network, as in "conv1.kernel"
WINDOW = (2, 2)  # pooling window and strides; drops an odd edge


class Layer(NamedTuple):
    """One operation on float32 `[batch, height, width, channels]` or `[batch, units]`.

    `convolve` has stride 1 and 'SAME' padding.
    """

    kind: Kind
    weights: str = ""  # "conv1" for the weights "conv1.kernel" and "conv1.bias"


def layer_probabilities(
    layers: list[Layer], weights: Weights, pixels: jax.Array
) -> jax.Array:
    """Class probabilities, computed with JAX's standard operations.

    Converters recognise these. The networks themselves write convolutions as matrix
    products, which train fast on CPU but export as many small operations.

    Args:
        layers: as from `Model.layers`.
        weights: by path in the network.
        pixels: float32 `[batch, height, width, channels]` in [0, 1].

    Returns:
        float32 `[batch, classes]`; rows sum to 1.

    Raises:
        ValueError: a layer is of an unknown kind.
    """
    hidden = pixels
    for kind, name in layers:
        hidden = apply_layer(kind, hidden, weights, name)
    return jax.nn.softmax(hidden)


def apply_layer(
    kind: Kind, hidden: jax.Array, weights: Weights, name: str
) -> jax.Array:
    """The outputs of one layer.

    Args:
        kind: the operation.
        hidden: its inputs.
        weights: of the network, by path.
        name: of the layer whose weights it uses.

    Raises:
        ValueError: the kind is unknown.
    """
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
    raise ValueError(f"{kind}: unknown kind of layer")
