"""The EMA of the weights against numpy."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from src.training.ema import update_ema


class One(nnx.Module):
    def __init__(self, value):
        self.weight = nnx.Param(jnp.array(value, jnp.float32))


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_ema_matches_its_formula(decay):
    average, model = One([1.0, -1.0]), One([1.0, -1.0])
    expected = np.array([1.0, -1.0])
    weights = np.random.default_rng(0).normal(size=(30, 2))
    for step, weight in enumerate(weights, start=1):
        model.weight[...] = jnp.asarray(weight, jnp.float32)
        update_ema(average, model, decay, jnp.int32(step))
        share = min(decay, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * weight
        np.testing.assert_allclose(average.weight[...], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(model.weight[...], weight.astype(np.float32))
