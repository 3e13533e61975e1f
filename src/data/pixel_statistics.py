"""Mean and standard deviation of the pixels of a split, per channel."""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from src.data.lazy_images import Images, pieces


class PixelStatistics(NamedTuple):
    """One number per channel, of pixels in [0, 1]."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]  # > 0; 1 where all pixels are equal


def pixel_statistics(images: Images) -> PixelStatistics:
    """The statistics of all pixels of all images.

    Counted in integers and divided once, so the order and the pieces in which images
    are read do not matter: every process and machine finds the same bits.

    Args:
        images: uint8 `[n, height, width, channels]`, in memory or on disk.
    """
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for piece in pieces(images):
        for channel, row in enumerate(counts):
            row += np.bincount(piece[..., channel].reshape(-1), minlength=256)
    found = [channel_statistics(row) for row in counts]
    means, deviations = zip(*found, strict=True)
    return PixelStatistics(means, deviations)


def channel_statistics(counts: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of pixels in [0, 1].

    Args:
        counts: int64 `[256]`, how many pixels have each value.
    """
    numbers = [int(count) for count in counts]
    pixels = sum(numbers)
    total = sum(value * count for value, count in enumerate(numbers))
    squares = sum(value**2 * count for value, count in enumerate(numbers))
    variance = Fraction(pixels * squares - total**2, (255 * pixels) ** 2)
    return total / (255 * pixels), math.sqrt(variance) or 1.0
