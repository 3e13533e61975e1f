"""Losses against their formula in double precision."""

import jax.numpy as jnp
import numpy as np
import pytest

from src.training.losses import cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.05, 0.9])
def test_cross_entropy_matches_the_smoothed_target(smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(20, 7)) * 5, rng.integers(0, 7, 20)
    target = (1 - smoothing) * np.eye(7)[labels] + smoothing / 7
    log_odds = logits - logits.max(1, keepdims=True)
    log_probability = log_odds - np.log(np.exp(log_odds).sum(1, keepdims=True))
    expected = -(target * log_probability).sum(1)
    found = cross_entropy(
        jnp.asarray(logits, jnp.float32), jnp.asarray(labels, jnp.int32), smoothing
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
