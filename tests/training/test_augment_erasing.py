"""Random erasing: how many images, where, and by what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from src.training.augment_erasing import erase, random_bytes

KEY = jax.random.key(7)
ERASE = jax.jit(erase, static_argnums=2)  # compiled once, not operation by operation


def erased(count, shape, largest):
    """The images, and which pixels have changed in at least one channel."""
    images = np.full((count, *shape), 77, np.uint8)
    found = np.asarray(ERASE(jnp.asarray(images), KEY, largest))
    assert found.dtype == np.uint8
    return found, (found != images).any(-1)


def test_half_of_the_images_get_one_rectangle():
    # Noise equals 77 in all channels once in 16 million pixels.
    _, changed = erased(1000, (20, 24, 3), 0.3)
    chosen = changed.any((1, 2))
    # Four standard deviations of a fair coin.
    assert abs(chosen.sum() - 500) < 4 * np.sqrt(250)
    for inside in changed[chosen]:
        rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
        assert inside.sum() == len(rows) * len(columns)
        assert len(rows) == rows[-1] - rows[0] + 1
        assert len(columns) == columns[-1] - columns[0] + 1


@pytest.mark.parametrize(("largest", "smallest"), [(0.3, 0.02), (0.01, 0.01)])
def test_areas_are_between_the_smallest_of_the_paper_and_the_largest(largest, smallest):
    _, changed = erased(1000, (64, 64, 3), largest)
    areas = changed.mean((1, 2))
    areas = areas[areas > 0]
    assert areas.min() == pytest.approx(smallest, rel=0.2)
    assert areas.max() == pytest.approx(largest, rel=0.2)


def test_erased_pixels_are_uniform_noise():
    found, changed = erased(400, (32, 32, 3), 0.3)
    counts = np.bincount(found[changed].reshape(-1), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-3
    channels = found[changed].astype(float).T
    assert np.abs(np.corrcoef(channels) - np.eye(3)).max() < 0.02


@pytest.mark.parametrize("shape", [(3, 5), (2, 2, 2, 3), (4, 8, 8, 1)])
def test_random_bytes_have_the_shape_and_differ_between_images(shape):
    found = np.asarray(random_bytes(KEY, shape))
    assert (found.shape, found.dtype) == (shape, np.uint8)
    assert len({image.tobytes() for image in found}) == len(found)
