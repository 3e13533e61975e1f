"""2x2 pooling that keeps a byte of each window for its gradient.

JAX would keep the four pixels. Memory traffic limits these layers on CPU.
"""

from collections.abc import Callable
from functools import partial, reduce

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from src.models.microbatch import save_for_backward

Pool = Callable[[jax.Array], jax.Array]
# From the four pixels of each window: its value, and a bit for each pixel whose
# gradient is that of the value.
Rule = Callable[[list[jax.Array]], tuple[jax.Array, jax.Array]]


def max_pool(images: jax.Array) -> jax.Array:
    """Maximum of each 2x2 window; drops an odd last row or column.

    The gradient goes to the first of equal pixels.
    """
    return pool_windows(largest, whole_windows(images))


def relu_max_pool(images: jax.Array) -> jax.Array:
    """`nnx.relu(max_pool(images))`, which equals `max_pool(nnx.relu(images))`."""
    return nnx.relu(save_for_backward(max_pool(images)))


def relu_average_pool(images: jax.Array) -> jax.Array:
    """Mean of `nnx.relu` in each 2x2 window; drops an odd last row or column."""
    return pool_windows(sum_of_positive, whole_windows(images)) / 4


def largest(pixels: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The maximum; the bit of the first pixel that has it."""
    a, b, c, d = pixels
    upper, lower = jnp.maximum(a, b), jnp.maximum(c, d)
    first = jnp.where(upper >= lower, jnp.where(a >= b, 1, 2), jnp.where(c >= d, 4, 8))
    return jnp.maximum(upper, lower), first.astype(jnp.uint8)


def sum_of_positive(pixels: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The sum of relu; the bits of positive pixels."""
    bits = [(pixel > 0).astype(jnp.uint8) << n for n, pixel in enumerate(pixels)]
    # Added one by one, so that XLA fuses the sum with the layers before it.
    return reduce(jnp.add, map(nnx.relu, pixels)), reduce(jnp.bitwise_or, bits)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def pool_windows(rule: Rule, images: jax.Array) -> jax.Array:
    """The value of each window; height and width are even."""
    return rule(window_pixels(images))[0]


def pool_windows_forward(rule: Rule, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The value and the bits of each window."""
    values, bits = rule(window_pixels(images))
    return values, save_for_backward(bits)


pool_windows.defvjp(
    pool_windows_forward, lambda _, bits, cotangent: (where_set(bits, cotangent),)
)


def whole_windows(images: jax.Array) -> jax.Array:
    """The images without an odd last row or column."""
    _, height, width, _ = images.shape
    return images[:, : height // 2 * 2, : width // 2 * 2]


def window_pixels(images: jax.Array) -> list[jax.Array]:
    """The four pixels of each window, each `[batch, rows, columns, channels]`."""
    return [images[:, row::2, column::2] for row in range(2) for column in range(2)]


def where_set(bits: jax.Array, values: jax.Array) -> jax.Array:
    """For each pixel the value of its window if its bit is set, else 0.

    Args:
        bits: uint8 `[batch, rows, columns, channels]`.
        values: of the same shape.

    Returns:
        `[batch, 2 * rows, 2 * columns, channels]`.
    """
    batch, rows, columns, channels = bits.shape
    shape = batch, rows, 2, columns, 2, channels
    # XLA computes iotas in its loop. Reading the four numbers would be slower.
    row, column = (lax.broadcasted_iota(jnp.uint8, shape, axis) for axis in (2, 4))
    chosen = bits[:, :, None, :, None] & (jnp.uint8(1) << (2 * row + column)) != 0
    spread = jnp.where(chosen, values[:, :, None, :, None], 0)
    return spread.reshape(batch, 2 * rows, 2 * columns, channels)
