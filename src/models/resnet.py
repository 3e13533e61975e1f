"""Residual network for images of 28 to 224 pixels a side.

Source: He et al. 2016, arXiv:1512.03385, section 3, with max pooling in place of
strides, and in the stem before normalization. Why batch normalization:
docs/explanation/measurements.md.
"""

from typing import ClassVar

import jax
from flax import nnx

from src.models.architecture import Architecture, Model
from src.models.dropout import Dropout
from src.models.normalize import Normalize
from src.models.pooling import Pool, max_pool

STAGES = 3
LARGE_SIDE = 48  # pixels; images from here on enter as pixels of 2x2 pixels
STAGE_SIDE = 28  # pixels; the stem halves larger sides, at least once
SMALLEST_SIDE = 4  # pixels after the stem: the two other stages leave one

KERNEL_INIT = nnx.initializers.he_normal()


class ResNet(Model):
    """A stem, three stages of residual blocks, average over pixels, dropout, dense."""

    smallest_image = 2 * SMALLEST_SIDE
    default_filters: ClassVar[int] = 32
    default_blocks: ClassVar[int] = 1
    default_normalize = True

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs) -> None:
        filters = architecture.filters or self.default_filters
        blocks = architecture.blocks or self.default_blocks
        self.normalize = Normalize.of(architecture)
        self.stem = Stem(architecture.image_shape, filters, rngs)
        widths = [filters << stage for stage in range(STAGES) for _ in range(blocks)]
        inputs = [filters, *widths[:-1]]
        self.blocks = nnx.List(
            Block(channels, width, rngs)
            for channels, width in zip(inputs, widths, strict=True)
        )
        self.dropout = Dropout(architecture.dropout)
        # From zero: the first steps teach the classes, not a random projection.
        self.output = nnx.Linear(
            widths[-1],
            architecture.classes,
            kernel_init=nnx.initializers.zeros_init(),
            rngs=rngs,
        )

    def __call__(self, images: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits `[batch, classes]` of uint8 `[batch, height, width, channels]`."""
        return self.from_feature_map(self.feature_map(images), rngs)

    def feature_map(self, images: jax.Array) -> jax.Array:
        """The last block's output, `[batch, rows, columns, filters]`."""
        hidden = self.stem(self.normalize(images))
        for block in self.blocks:
            hidden = block(hidden)
        return hidden

    def from_feature_map(
        self, feature_map: jax.Array, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Logits of the feature map's average."""
        hidden = feature_map.mean((1, 2))
        hidden = self.dropout(hidden, deterministic=rngs is None, rngs=rngs)
        return self.output(hidden)


class ConvNorm(nnx.Module):
    """Convolution without bias, then batch normalization."""

    def __init__(self, channels: int, filters: int, size: int, rngs: nnx.Rngs) -> None:
        """Draws the weights; `size` is the kernel's, in pixels a side."""
        self.conv = nnx.Conv(
            channels,
            filters,
            kernel_size=(size, size),
            use_bias=False,
            kernel_init=KERNEL_INIT,
            rngs=rngs,
        )
        # Flax's default of 0.99 forgets the start only after hundreds of steps.
        self.norm = nnx.BatchNorm(filters, momentum=0.9, rngs=rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """`[batch, height, width, filters]` of `[batch, height, width, channels]`."""
        normalized: jax.Array = self.norm(self.conv(inputs))
        return normalized


class Stem(nnx.Module):
    """Convolutions with max pooling, until no side has more than `STAGE_SIDE` pixels.

    They stop earlier if a side would get less than `SMALLEST_SIDE`. Each has twice the
    filters of the one before: so images of 224 pixels cost no more per pixel than those
    of 64.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], filters: int, rngs: nnx.Rngs
    ) -> None:
        height, width, channels = image_shape
        long, short = max(height, width), min(height, width)
        self.patch = 2 if long >= LARGE_SIDE and short >= 4 * SMALLEST_SIDE else 1
        long, short = long // self.patch, short // self.patch
        halvings = 1
        while long >> halvings > STAGE_SIDE and short >> halvings >= 2 * SMALLEST_SIDE:
            halvings += 1
        widths = [max(filters >> left, 1) for left in reversed(range(halvings))]
        inputs = [channels * self.patch**2, *widths[:-1]]
        self.layers = nnx.List(
            ConvNorm(channels, width, 3, rngs)
            for channels, width in zip(inputs, widths, strict=True)
        )
        self.pool: Pool = max_pool

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """`[batch, rows, columns, filters]` of `[batch, height, width, channels]`."""
        hidden = space_to_depth(pixels, self.patch)
        for layer in self.layers:
            # Pooled first: normalization has a quarter of the values left to do.
            hidden = nnx.relu(layer.norm(self.pool(layer.conv(hidden))))
        return hidden


class Block(nnx.Module):
    """relu(x + f(x)), where f is convolution, relu, convolution.

    If the number of filters changes, max pooling halves x first, and a 1x1 convolution
    takes the place of x in the sum.
    """

    def __init__(self, channels: int, filters: int, rngs: nnx.Rngs) -> None:
        self.first = ConvNorm(channels, filters, 3, rngs)
        self.second = ConvNorm(filters, filters, 3, rngs)
        widens = filters != channels
        self.shortcut = ConvNorm(channels, filters, 1, rngs) if widens else None
        self.pool: Pool = max_pool

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """`[batch, height, width, filters]`, halved if the filters changed."""
        if self.shortcut is not None:
            inputs = self.pool(inputs)
        hidden = self.second(nnx.relu(self.first(inputs)))
        if self.shortcut is not None:
            inputs = self.shortcut(inputs)
        return nnx.relu(inputs + hidden)


def space_to_depth(pixels: jax.Array, side: int) -> jax.Array:
    """Makes one pixel of each square of `side` pixels; drops the rest at the edge.

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
