"""Residual network without batch normalization, for images of 28 to 224 pixels.

Pre-activation blocks with scaled weight standardization, as in NF-ResNets. Each image
is treated alone, so slices of a batch, `accumulate` and several devices give the
gradients of the whole batch.

Source: Brock et al. 2021, arXiv:2101.08692; He et al. 2016, arXiv:1603.05027.
"""

import math
from collections.abc import Callable
from typing import ClassVar

import jax
from flax import nnx

from src.models.architecture import Architecture, Model
from src.models.convolution import max_pool
from src.models.dropout import Dropout
from src.models.microbatch import in_slices, save_for_backward
from src.models.normalize import Normalize
from src.models.standardized import StandardizedConv, scaled_relu

STAGES = 3
# Weight of a block's branch in the sum: the variance grows by its square at each block.
BRANCH = 0.2
LARGE_SIDE = 48  # pixels; images from here on enter as pixels of 2x2 pixels
STAGE_SIDE = 28  # pixels; the stem halves larger sides, at least once


class ResNet(Model):
    """A stem, three stages of residual blocks, average over pixels, dropout, dense."""

    smallest_image = 8
    default_filters: ClassVar[int] = 32
    default_blocks: ClassVar[int] = 1
    default_normalize = True

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs) -> None:
        filters = architecture.filters or self.default_filters
        count = architecture.blocks or self.default_blocks
        self.normalize = Normalize.of(architecture)
        self.stem = Stem(architecture.image_shape, filters, rngs)
        blocks, variance, channels = [], 1.0, filters
        for stage in range(STAGES):
            for _ in range(count):
                block = Block(channels, filters << stage, variance, rngs)
                variance = block.output_variance
                channels = filters << stage
                blocks.append(block)
        self.blocks = nnx.List(blocks)
        self.deviation = math.sqrt(variance)
        self.dropout = Dropout(architecture.dropout)
        self.output = nnx.Linear(
            channels,
            architecture.classes,
            kernel_init=nnx.initializers.zeros_init(),
            rngs=rngs,
        )

    def __call__(self, images: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits `[batch, classes]` of uint8 `[batch, height, width, channels]`."""
        hidden = in_slices(self.features, self.normalize(images))
        hidden = self.dropout(hidden, deterministic=rngs is None, rngs=rngs)
        return self.output(hidden)

    def features(self, pixels: jax.Array) -> jax.Array:
        """Float32 `[batch, 4 * filters]` of normalized pixels."""
        hidden = self.stem(pixels)
        for block in self.blocks:
            hidden = block(hidden)
        return scaled_relu(hidden / self.deviation).mean((1, 2))


class Stem(nnx.Module):
    """Convolutions with max pooling, until a side has at most `STAGE_SIDE` pixels.

    Narrower ones come first, each with half the filters of the next: so images of 224
    pixels cost no more per pixel than those of 64.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], filters: int, rngs: nnx.Rngs
    ) -> None:
        height, width, channels = image_shape
        side = max(height, width)
        self.patch = 2 if side >= LARGE_SIDE else 1
        halvings = 1
        while side // self.patch >> halvings > STAGE_SIDE:
            halvings += 1
        channels *= self.patch**2
        convs = []
        for left in reversed(range(halvings)):
            narrow = max(filters >> left, 1)
            convs.append(StandardizedConv(channels, narrow, 3, rngs=rngs))
            channels = narrow
        self.convs = nnx.List(convs)
        self.pool: Callable[[jax.Array], jax.Array] = max_pool

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """`[batch, rows, columns, filters]` of `[batch, height, width, channels]`."""
        hidden = space_to_depth(pixels, self.patch)
        for number, conv in enumerate(self.convs):
            hidden = scaled_relu(hidden) if number else hidden
            hidden = self.pool(save_for_backward(conv(hidden)))
        return hidden


class Block(nnx.Module):
    """x + BRANCH f(x / deviation), where f is relu, convolution, relu, convolution.

    If the number of filters changes, the activated input is halved by max pooling, and
    a 1x1 convolution of it takes the place of x.
    """

    def __init__(
        self, channels: int, filters: int, variance: float, rngs: nnx.Rngs
    ) -> None:
        """Draws the weights; `variance` is what the input has at the start."""
        self.deviation = math.sqrt(variance)
        self.conv1 = StandardizedConv(channels, filters, 3, rngs=rngs)
        self.conv2 = StandardizedConv(filters, filters, 3, rngs=rngs)
        widens = filters != channels
        self.shortcut = (
            StandardizedConv(channels, filters, 1, rngs=rngs) if widens else None
        )
        self.pool: Callable[[jax.Array], jax.Array] = max_pool
        self.output_variance = (1.0 if widens else variance) + BRANCH**2

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """`[batch, height, width, filters]`, halved if the filters changed."""
        hidden = scaled_relu(inputs / self.deviation)
        if self.shortcut is not None:
            hidden = self.pool(hidden)
            inputs = self.shortcut(hidden)
        hidden = save_for_backward(self.conv1(hidden))
        hidden = save_for_backward(self.conv2(scaled_relu(hidden)))
        return inputs + BRANCH * hidden


def space_to_depth(pixels: jax.Array, side: int) -> jax.Array:
    """Makes pixels of squares of `side` pixels; drops what remains at the edge.

    Args:
        pixels: `[batch, height, width, channels]`.
        side: of a square; 1 returns the pixels.

    Returns:
        `[batch, height // side, width // side, side * side * channels]`.
    """
    if side == 1:
        return pixels
    batch, height, width, channels = pixels.shape
    rows, columns = height // side, width // side
    even = pixels[:, : rows * side, : columns * side]
    squares = even.reshape(batch, rows, side, columns, side, channels)
    return squares.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, -1)
