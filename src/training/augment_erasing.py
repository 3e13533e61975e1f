"""Augmentations that erase a part of each image."""

import math

import jax
import jax.numpy as jnp

from src.training.boxes import random_boxes

SMALLEST_ERASED = 0.02  # of the image


def cut_out(images: jax.Array, key: jax.Array, pixels: int) -> jax.Array:
    """Blackens a square of `pixels` a side, centred anywhere in the image.

    Source: DeVries and Taylor 2017, arXiv:1708.04552.
    """
    batch, height, width, _ = images.shape
    middles = jax.random.uniform(key, (2, batch, 1))
    first_row = jnp.floor(middles[0] * height) - pixels // 2
    first_column = jnp.floor(middles[1] * width) - pixels // 2
    row, column = jnp.arange(height)[None], jnp.arange(width)[None]
    rows = (row >= first_row) & (row < first_row + pixels)
    columns = (column >= first_column) & (column < first_column + pixels)
    inside = rows[:, :, None] & columns[:, None, :]
    return jnp.where(inside[..., None], jnp.uint8(0), images)


def erase(images: jax.Array, key: jax.Array, largest: float) -> jax.Array:
    """Replaces a random rectangle of half of the images by noise.

    Source: Zhong et al. 2020, arXiv:1708.04896, algorithm 1, with its smallest area and
    aspect ratios.

    Args:
        images: uint8 `[batch, height, width, channels]`.
        key: a random key.
        largest: the largest area, as a fraction of the image, in (0, 1].
    """
    count, height, width, _ = images.shape
    chosen_key, box_key, noise_key = jax.random.split(key, 3)
    areas = (min(SMALLEST_ERASED, largest), largest)
    boxes = random_boxes(box_key, images.shape, areas, (0.3, 1 / 0.3))
    row, column = jnp.arange(height)[None], jnp.arange(width)[None]
    top, left, tall, wide = (part[:, None] for part in boxes)
    rows = (row >= top) & (row < top + tall)
    columns = (column >= left) & (column < left + wide)
    chosen = jax.random.bernoulli(chosen_key, shape=(count, 1, 1, 1))
    inside = chosen & rows[:, :, None, None] & columns[:, None, :, None]
    noise = random_bytes(noise_key, images.shape)
    return jnp.where(inside, noise, images)


def random_bytes(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform uint8 numbers of this shape, drawn four at once as one uint32."""
    count, size = shape[0], math.prod(shape[1:])
    words = jax.random.bits(key, (count, -(-size // 4)), jnp.uint32)
    numbers = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(count, -1)
    return numbers[:, :size].reshape(shape)
