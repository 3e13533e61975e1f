"""Multilayer perceptron with one hidden layer: the smallest model."""

import math
from typing import ClassVar

import jax
from flax import nnx

from src.models.architecture import Architecture, Model
from src.models.dropout import Dropout
from src.models.normalize import Normalize


class MLP(Model):
    """Flatten, dense, relu, dropout, dense."""

    smallest_image = 1
    default_hidden: ClassVar[int] = 256

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs) -> None:
        pixels = math.prod(architecture.image_shape)
        self.normalize = Normalize.of(architecture)
        hidden = architecture.hidden or self.default_hidden
        self.dense = nnx.Linear(pixels, hidden, rngs=rngs)
        self.dropout = Dropout(architecture.dropout)
        self.output = nnx.Linear(hidden, architecture.classes, rngs=rngs)

    def __call__(self, images: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits `[batch, classes]` of uint8 `[batch, height, width, channels]`."""
        hidden = self.normalize(images).reshape(images.shape[0], -1)
        hidden = nnx.relu(self.dense(hidden))
        hidden = self.dropout(hidden, deterministic=rngs is None, rngs=rngs)
        return self.output(hidden)
