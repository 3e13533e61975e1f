"""Convolution, relu and 2x2 pooling as one: faster where an image has few channels.

Such a layer is all memory traffic: 9 products a number. On CPU the four pixels that
are pooled together are therefore computed side by side, from one patch of 4x4, and stay
side by side until they are pooled; nothing is laid out as an image in between.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from src.models.convolution import TILED_CHANNELS, Pool, max_pool, tile_pixels
from src.models.microbatch import save_for_backward


def convolve_relu_pool(conv: nnx.Conv, images: jax.Array, pool: Pool) -> jax.Array:
    """`pool(nnx.relu(conv(images)))`, in the faster of two forms.

    Args:
        conv: the layer.
        images: `[batch, height, width, channels]`.
        pool: `average_pool` or `max_pool`.

    Returns:
        `[batch, height // 2, width // 2, filters]`.
    """

    def by_layers(images: jax.Array) -> jax.Array:
        outputs = save_for_backward(conv(images))
        if pool is max_pool:  # relu changes no order: it can wait for a quarter of them
            return nnx.relu(pool(outputs))
        return pool(nnx.relu(outputs))

    if conv.bias is None or not fits_blocks(conv, images):
        return by_layers(images)
    kernel, bias = conv.kernel[...], conv.bias[...]

    def by_blocks(images: jax.Array) -> jax.Array:
        return pool_blocks(images, kernel, bias, pool)

    return lax.platform_dependent(images, cpu=by_blocks, default=by_layers)


def fits_blocks(conv: nnx.Conv, images: jax.Array) -> bool:
    """Whether `pool_blocks` can stand in for the layer."""
    return (
        conv.kernel_size == (3, 3)
        and conv.in_features < TILED_CHANNELS
        and (conv.strides, conv.padding) == (1, "SAME")
        and (conv.input_dilation, conv.kernel_dilation) == (1, 1)
        and (conv.feature_group_count, conv.mask) == (1, None)
        and conv.dtype in (None, jnp.float32)
        and images.dtype == conv.param_dtype == jnp.float32
    )


def pool_blocks(
    images: jax.Array, kernel: jax.Array, bias: jax.Array, pool: Pool
) -> jax.Array:
    """One matrix product gives the four pixels of each block, a group of columns each.

    The kernel is laid into a 4x4 window at each of its four places. So a block needs 16
    numbers where four patches would need 36, and zeros are multiplied by 7 of them.
    """
    batch, height, width, channels = images.shape
    rows, columns, filters = height // 2, width // 2, kernel.shape[-1]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    pixels = [pixel for line in tile_pixels(padded, rows, columns) for pixel in line]
    patches = jnp.concatenate(pixels, axis=-1).reshape(-1, 16 * channels)
    places = [
        jnp.pad(kernel, ((row, 1 - row), (column, 1 - column), (0, 0), (0, 0)))
        for row in range(2)
        for column in range(2)
    ]
    window = jnp.stack(places, axis=3).reshape(16 * channels, 4 * filters)
    outputs = patches @ window
    if pool is max_pool:  # relu and bias do not change which one is largest
        largest = outputs.reshape(-1, 4, filters).max(1)
        pooled = nnx.relu(largest + bias[None])
    else:
        hidden = nnx.relu(outputs + jnp.tile(bias, 4)[None])
        pooled = block_recompute(pool(hidden.reshape(-1, 2, 2, filters)))
    return pooled.reshape(batch, rows, columns, filters)


def block_recompute(values: jax.Array) -> jax.Array:
    """The values, divided by one in a way that XLA cannot see through.

    A division counts as expensive, so XLA stores the gradient that arrives here; else
    it would be computed again for each of the four pixels that it goes back to.
    """
    return values / lax.stop_gradient(1 + 0 * values)
