"""Small data that a network can learn."""

import numpy as np

from src.data.examples import Examples


def patterned(count: int, seed: int, shape=(8, 8, 1), classes=3) -> Examples:
    """Images that a network can learn: a bright stripe at the position of the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count, dtype=np.int32)
    images = rng.integers(0, 60, (count, *shape), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += np.uint8(150)
    return Examples(images, labels)
