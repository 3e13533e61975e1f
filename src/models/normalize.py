"""Pixel normalization, the first operation of every network."""

import jax
import jax.numpy as jnp


def as_floats(images: jax.Array) -> jax.Array:
    """Uint8 images as float32 in [0, 1].

    The division is part of the network, so exported files take uint8 images.
    """
    # 255, not 256: 0 and 255 must map to exactly 0 and 1.
    return images.astype(jnp.float32) / 255
