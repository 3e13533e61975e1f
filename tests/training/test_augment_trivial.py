"""TrivialAugment: which operations it draws, at which strengths, and applies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from src.training.augment_operations import COLOUR_OPERATIONS, GREY_OPERATIONS
from src.training.augment_trivial import random_choices, trivial_augment

KEY = jax.random.key(7)


def test_operations_strengths_and_signs_are_uniform_and_independent():
    which, strengths = map(np.asarray, random_choices(KEY, 20_000, 14))
    levels = strengths * 30
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-5)
    levels = np.round(levels).astype(int)
    assert stats.chisquare(np.bincount(which, minlength=14)).pvalue > 1e-3
    counts = np.bincount(levels + 30, minlength=61)
    counts[30] //= 2  # 0 has no sign
    assert stats.chisquare(counts, counts.sum() / 61 * np.ones(61)).pvalue > 1e-3
    assert stats.spearmanr(which, levels).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "operations"), [(1, GREY_OPERATIONS), (3, COLOUR_OPERATIONS)]
)
def test_each_image_gets_the_operation_that_was_drawn_for_it(channels, operations):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 15, 12, channels), np.uint8)
    found = np.asarray(jax.jit(trivial_augment)(jnp.asarray(images), KEY))
    assert found.dtype == np.uint8
    which, strengths = map(np.asarray, random_choices(KEY, 200, len(operations)))
    assert set(which) == set(range(len(operations)))
    for number, operation in enumerate(operations):
        chosen = which == number
        arguments = jnp.asarray(images[chosen]), jnp.asarray(strengths[chosen])
        expected = np.asarray(jax.jit(jax.vmap(operation))(*arguments))
        difference = np.abs(found[chosen].astype(int) - expected)
        # Compiled together, halves may be rounded differently.
        assert (difference <= 1).mean() > 0.99, operation.__name__
