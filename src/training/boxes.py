"""Random boxes in images."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

ATTEMPTS = 10  # as in torchvision


class Boxes(NamedTuple):
    """A box for each image, in pixels: int32 `[batch]` each."""

    top: jax.Array
    left: jax.Array
    height: jax.Array  # 0 where no box fits
    width: jax.Array


def random_boxes(
    key: jax.Array,
    shape: tuple[int, ...],
    areas: tuple[float, float],
    ratios: tuple[float, float],
) -> Boxes:
    """Draws a box for each image, of a random size and anywhere inside.

    A box that does not fit is drawn again, up to ten times.

    Args:
        key: a random key.
        shape: of the images, `[batch, height, width, ...]`.
        areas: bounds of the area, drawn uniformly, as fractions of the image.
        ratios: bounds of width / height, whose logarithm is drawn uniformly.
    """
    batch, height, width = shape[:3]
    drawn = jax.random.uniform(key, (4, ATTEMPTS, batch))
    area = height * width * (areas[0] + (areas[1] - areas[0]) * drawn[0])
    low, high = map(math.log, ratios)
    ratio = jnp.exp(low + (high - low) * drawn[1])
    widths = jnp.round(jnp.sqrt(area * ratio)).astype(jnp.int32)
    heights = jnp.round(jnp.sqrt(area / ratio)).astype(jnp.int32)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    tops = random_places(drawn[2], height - heights)
    lefts = random_places(drawn[3], width - widths)
    boxes = jnp.stack([tops, lefts, heights, widths])
    first = fits & (jnp.cumsum(fits, axis=0) == 1)
    return Boxes(*jnp.where(first, boxes, 0).sum(1))


def random_places(shares: jax.Array, last: jax.Array) -> jax.Array:
    """Integers in [0, last], from numbers drawn uniformly from [0, 1)."""
    # The minimum: a share just below 1 may round up.
    return jnp.minimum(jnp.floor(shares * (last + 1)).astype(jnp.int32), last)
