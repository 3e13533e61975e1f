"""A network with state other than parameters, written as Flax's documentation does."""

import jax
import jax.numpy as jnp
from flax import nnx

from src.models.architecture import Architecture, Model
from src.models.microbatch import in_slices
from src.models.normalize import Normalize


class StatefulNet(Model):
    """Convolution, batch normalization, relu, mean; dropout with its own stream."""

    smallest_image = 1

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs) -> None:
        channels = architecture.image_shape[-1]
        self.normalize = Normalize.of(architecture)
        self.conv = nnx.Conv(channels, 6, kernel_size=(3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(6, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(architecture.dropout, rngs=rngs)
        pixels = architecture.image_shape[0] * architecture.image_shape[1]
        self.output = nnx.Linear(6 * pixels, architecture.classes, rngs=rngs)

    def __call__(self, images: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        hidden = in_slices(self.features, self.normalize(images))
        hidden = self.dropout(hidden.reshape(images.shape[0], -1))
        return self.output(hidden)

    def features(self, pixels: jax.Array) -> jax.Array:
        return nnx.relu(self.norm(self.conv(pixels)))


class BiasedNet(StatefulNet):
    """With a bias that the batch normalization after it cancels, and another mean.

    The mean is a plain variable: the average brightness of the images of training.
    """

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs) -> None:
        super().__init__(architecture, rngs)
        channels = architecture.image_shape[-1]
        self.conv = nnx.Conv(channels, 6, kernel_size=(3, 3), rngs=rngs)
        self.brightness = nnx.Variable(jnp.zeros(()))

    def __call__(self, images: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if rngs is not None:
            mean = self.normalize(images).mean()
            self.brightness[...] = 0.9 * self.brightness[...] + 0.1 * mean
        return super().__call__(images, rngs)


def stateful(dropout: float = 0.0) -> Architecture:
    """The architecture; its name must be put into `MODELS`."""
    shape = (8, 8, 1)
    return Architecture("stateful", None, dropout, image_shape=shape, classes=3)
