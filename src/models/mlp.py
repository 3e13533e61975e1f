"""Multilayer perceptron with one hidden layer: the smallest model."""

import math

import jax
from flax import nnx

from src.models.architecture import Architecture, Model
from src.models.dropout import Dropout
from src.models.normalize import as_floats


class MLP(Model):
    """Flatten, dense, relu, dropout, dense."""

    smallest_image = 1
    default_hidden = 256

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs) -> None:
        pixels = math.prod(architecture.image_shape)
        self.dense = nnx.Linear(pixels, architecture.hidden, rngs=rngs)
        self.dropout = Dropout(architecture.dropout)
        self.output = nnx.Linear(architecture.hidden, architecture.classes, rngs=rngs)

    def __call__(self, images: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits `[batch, classes]` of uint8 `[batch, height, width, channels]`."""
        hidden = as_floats(images).reshape(images.shape[0], -1)
        hidden = nnx.relu(self.dense(hidden))
        hidden = self.dropout(hidden, deterministic=rngs is None, rngs=rngs)
        return self.output(hidden)
