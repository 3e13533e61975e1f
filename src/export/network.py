"""The network as a function, from which all formats are made."""

from collections.abc import Callable

import jax
from flax import nnx

from src.models.architecture import Model
from src.models.plain import plain_model


def probabilities_of(model: Model) -> Callable[[jax.Array], jax.Array]:
    """The function from images to probabilities, of XLA's own operations.

    It takes uint8 or float32 `[batch, height, width, channels]` in [0, 255].
    """
    plain = plain_model(model)
    return lambda images: nnx.softmax(plain(images))
