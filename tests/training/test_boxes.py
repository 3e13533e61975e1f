"""Random boxes against the distribution they are drawn from."""

import jax
import numpy as np
import pytest
from scipy import stats

from src.training.boxes import random_boxes

KEY = jax.random.key(4)


def drawn(shape, areas, ratios):
    return [np.asarray(part) for part in random_boxes(KEY, shape, areas, ratios)]


def test_boxes_are_inside_the_image():
    top, left, height, width = drawn((5000, 30, 40), (0.02, 1.0), (0.3, 3.3))
    # One in 200 fits at none of the ten attempts.
    assert (height > 0).mean() > 0.98
    assert top.min() == 0
    assert left.min() == 0
    assert (top + height).max() == 30
    assert (left + width).max() == 40


def test_areas_and_logarithms_of_ratios_are_uniform():
    # So small a box always fits, so none is drawn again.
    _, _, height, width = drawn((5000, 1000, 1000), (0.01, 0.1), (3 / 4, 4 / 3))
    area = height * width / 1000**2
    assert stats.kstest(area, stats.uniform(0.01, 0.09).cdf).pvalue > 1e-3
    ratio = np.log(width / height) / np.log(4 / 3)
    assert stats.kstest(ratio, stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_places_are_uniform():
    top, left, height, width = drawn((5000, 1000, 1000), (0.2, 0.3), (1.0, 1.0))
    for first, size in ((top, height), (left, width)):
        assert (
            stats.kstest((first + 0.5) / (1001 - size), stats.uniform.cdf).pvalue > 1e-3
        )


@pytest.mark.parametrize("shape", [(200, 3, 40), (200, 40, 3)])
def test_a_box_that_fits_nowhere_has_no_height(shape):
    parts = drawn(shape, (0.9, 1.0), (3 / 4, 4 / 3))
    assert not np.any(parts)
