"""Augmentations that erase a part of each image."""

import jax
import jax.numpy as jnp


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
