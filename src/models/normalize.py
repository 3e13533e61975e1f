"""The first operation of every network."""

import jax
import jax.numpy as jnp


def as_floats(images: jax.Array) -> jax.Array:
    """Pixels in [0, 1], float32: inside the graph, so an exported file takes uint8."""
    # 255, not 256: 0 and 255 must map to exactly 0 and 1.
    return images.astype(jnp.float32) / 255
