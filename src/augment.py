"""Training images, changed at random: a pure function of the images and a key."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from src.config import AugmentName

SHIFT = 2  # pixels, at most, in each direction


def augment_images(
    images: jax.Array, names: Sequence[AugmentName], key: jax.Array
) -> jax.Array:
    """Each image changed in every way that is named, in the order of the names.

    Args:
        images: uint8 `[batch, height, width, channels]`.
        names: none leaves the images as they are.
        key: of this step; each name draws from its own part of it.
    """
    for name in names:
        match name:
            case "flip":
                images = flip(images, jax.random.fold_in(key, 0))
            case "shift":
                images = shift(images, jax.random.fold_in(key, 1))
    return images


def flip(images: jax.Array, key: jax.Array) -> jax.Array:
    """Left and right exchanged, in half of the images."""
    chosen = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(chosen, images[:, :, ::-1], images)


def shift(images: jax.Array, key: jax.Array) -> jax.Array:
    """Moved up or down, and left or right, by up to `SHIFT` pixels each.

    What comes in at the edge is black.
    """
    batch, height, width, _ = images.shape
    edge = (SHIFT, SHIFT)
    padded = jnp.pad(images, ((0, 0), edge, edge, (0, 0)))
    corners = jax.random.randint(key, (batch, 2), 0, 2 * SHIFT + 1)
    rows = corners[:, :1] + jnp.arange(height)[None]
    columns = corners[:, 1:] + jnp.arange(width)[None]
    image = jnp.arange(batch)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]]
