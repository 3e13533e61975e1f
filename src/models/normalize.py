"""Pixel normalization, the first operation of every network."""

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from src.models.architecture import Architecture


def as_floats(images: jax.Array) -> jax.Array:
    """Uint8 images as float32 in [0, 1].

    The division is part of the network, so exported files take uint8 images.
    """
    # 255, not 256: 0 and 255 must map to exactly 0 and 1.
    return images.astype(jnp.float32) / 255


@dataclass(frozen=True)
class Normalize:
    """Maps uint8 images to the numbers that the first layer sees.

    A static attribute of a network: the numbers are constants of its graph.
    """

    mean: tuple[float, ...] | None  # per channel, of pixels in [0, 1]
    deviation: tuple[float, ...] | None  # per channel; None as is `mean`

    @classmethod
    def of(cls, architecture: Architecture) -> Self:
        """The normalization of an architecture."""
        return cls(architecture.pixel_mean, architecture.pixel_deviation)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Pixels in [0, 1], minus the mean, divided by the deviation.

        Args:
            images: uint8 `[batch, height, width, channels]`.

        Returns:
            float32 of the same shape.
        """
        pixels = as_floats(images)
        if self.mean is None or self.deviation is None:
            return pixels
        mean, deviation = (
            np.asarray(numbers, np.float32).reshape(1, 1, 1, -1)
            for numbers in (self.mean, self.deviation)
        )
        return (pixels - mean) / deviation
