"""2x2 pooling that keeps a byte of each window for its gradient.

JAX would keep the four pixels. Memory traffic limits these layers on CPU.
"""

from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp
from flax import nnx

from src.models.microbatch import save_for_backward

Pool = Callable[[jax.Array], jax.Array]


def max_pool(images: jax.Array) -> jax.Array:
    """Maximum of each 2x2 window; drops an odd last row or column.

    The gradient goes to the first of equal pixels.
    """
    return largest_pixel(whole_windows(images))


def relu_max_pool(images: jax.Array) -> jax.Array:
    """`nnx.relu(max_pool(images))`, which equals `max_pool(nnx.relu(images))`."""
    return nnx.relu(save_for_backward(max_pool(images)))


def relu_average_pool(images: jax.Array) -> jax.Array:
    """Mean of `nnx.relu` in each 2x2 window; drops an odd last row or column."""
    return mean_of_positive(whole_windows(images))


@jax.custom_vjp
def largest_pixel(images: jax.Array) -> jax.Array:
    """The maximum of each window."""
    return reduce(jnp.maximum, window_pixels(images))


def largest_pixel_forward(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The maximum; the bit of the first pixel that has it."""
    a, b, c, d = window_pixels(images)
    upper, lower = jnp.maximum(a, b), jnp.maximum(c, d)
    first = jnp.where(upper >= lower, jnp.where(a >= b, 1, 2), jnp.where(c >= d, 4, 8))
    return jnp.maximum(upper, lower), save_for_backward(first.astype(jnp.uint8))


largest_pixel.defvjp(
    largest_pixel_forward,
    lambda bits, cotangent: (where_set(bits, cotangent),),
)


@jax.custom_vjp
def mean_of_positive(images: jax.Array) -> jax.Array:
    """The mean of relu in each window."""
    # Added one by one, so that XLA fuses the sum with the layers before it.
    return reduce(jnp.add, map(nnx.relu, window_pixels(images))) / 4


def mean_of_positive_forward(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean; a bit for each positive pixel."""
    pixels = window_pixels(images)
    bits = [(pixel > 0).astype(jnp.uint8) << n for n, pixel in enumerate(pixels)]
    return mean_of_positive(images), save_for_backward(reduce(jnp.bitwise_or, bits))


mean_of_positive.defvjp(
    mean_of_positive_forward,
    lambda bits, cotangent: (where_set(bits, cotangent / 4),),
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
    numbers = jnp.arange(4, dtype=jnp.uint8).reshape(1, 1, 2, 1, 2, 1)
    chosen = (bits[:, :, None, :, None] >> numbers) & 1 == 1
    spread = jnp.where(chosen, values[:, :, None, :, None], 0)
    return spread.reshape(batch, 2 * rows, 2 * columns, channels)
