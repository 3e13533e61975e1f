"""Convolution, relu and 2x2 pooling fused: faster for images of few channels.

Such a layer is limited by memory traffic, not by arithmetic. On CPU one 4x4 patch
therefore gives the four pixels of a pooling window side by side. They are pooled from
there, and no image-shaped array is written in between.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from src.models.convolution import (
    MIN_TILED_CHANNELS,
    Pool,
    average_pool,
    max_pool,
    tile_pixels,
)
from src.models.microbatch import save_for_backward


def convolve_relu_pool(conv: nnx.Conv, images: jax.Array, pool: Pool) -> jax.Array:
    """`pool(nnx.relu(conv(images)))`, fused where that is faster.

    Args:
        conv: the convolution layer.
        images: float `[batch, height, width, channels]`.
        pool: 2x2 pooling; only `average_pool` and `max_pool` are fused.

    Returns:
        `[batch, height // 2, width // 2, filters]`.
    """

    def by_layers(images: jax.Array) -> jax.Array:
        outputs = save_for_backward(conv(images))
        if pool is max_pool:  # relu is monotonic: apply it to a quarter of the values
            return nnx.relu(pool(outputs))
        return pool(nnx.relu(outputs))

    fused = pool in (average_pool, max_pool) and fits_blocks(conv, images)
    if conv.bias is None or not fused:
        return by_layers(images)
    kernel, bias = conv.kernel[...], conv.bias[...]

    def by_blocks(images: jax.Array) -> jax.Array:
        return pool_blocks(images, kernel, bias, pool)

    return lax.platform_dependent(images, cpu=by_blocks, default=by_layers)


def fits_blocks(conv: nnx.Conv, images: jax.Array) -> bool:
    """Whether `pool_blocks` can compute the layer."""
    return (
        conv.kernel_size == (3, 3)
        and conv.in_features < MIN_TILED_CHANNELS
        and (conv.strides, conv.padding) == (1, "SAME")
        and (conv.input_dilation, conv.kernel_dilation) == (1, 1)
        and (conv.feature_group_count, conv.mask) == (1, None)
        and conv.dtype in (None, jnp.float32)
        and images.dtype == conv.param_dtype == jnp.float32
    )


def pool_blocks(
    images: jax.Array, kernel: jax.Array, bias: jax.Array, pool: Pool
) -> jax.Array:
    """One matrix product gives the four pixels of each pooling window.

    The kernel is placed at each of its four offsets in a 4x4 window of zeros. So a
    pooling window reads 16 numbers, where four 3x3 patches would read 36. In exchange,
    7 of 16 products are with a zero.

    Returns:
        `[batch, height // 2, width // 2, filters]`.
    """
    batch, height, width, channels = images.shape
    rows, columns, filters = height // 2, width // 2, kernel.shape[-1]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    pixels = [pixel for line in tile_pixels(padded, rows, columns) for pixel in line]
    patches = jnp.concatenate(pixels, axis=-1).reshape(-1, 16 * channels)
    offsets = [
        jnp.pad(kernel, ((row, 1 - row), (column, 1 - column), (0, 0), (0, 0)))
        for row in range(2)
        for column in range(2)
    ]
    window = jnp.stack(offsets, axis=3).reshape(16 * channels, 4 * filters)
    outputs = patches @ window
    if pool is max_pool:  # relu and bias do not change which pixel is the largest
        largest = outputs.reshape(-1, 4, filters).max(1)
        pooled = nnx.relu(largest + bias[None])
    else:
        hidden = nnx.relu(outputs + jnp.tile(bias, 4)[None])
        pooled = block_recompute(pool(hidden.reshape(-1, 2, 2, filters)))
    return pooled.reshape(batch, rows, columns, filters)


def block_recompute(values: jax.Array) -> jax.Array:
    """The same values; makes XLA store their gradient instead of recomputing it.

    XLA cannot see that it divides by one, and treats a division as expensive. Without
    it, XLA would compute the gradient again for each of the four pixels of a window.
    """
    return values / lax.stop_gradient(1 + 0 * values)
