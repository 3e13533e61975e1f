"""Losses against their formula in double precision."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from src.data.examples import Batch
from src.training.losses import (
    batch_losses,
    class_weights,
    cross_entropy,
    with_class_weights,
)


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


LABELS = np.repeat([0, 1, 3], [70, 20, 10])  # class 2 has no examples


def test_power_zero_means_no_weights():
    assert class_weights(LABELS, 4, 0.0) is None


@pytest.mark.parametrize("power", [0.3, 0.5, 1.0])
def test_weights_are_powers_of_the_counts_with_mean_one_over_examples(power):
    weights = class_weights(LABELS, 4, power)
    assert weights.dtype == np.float32
    assert weights[LABELS].mean() == pytest.approx(1, rel=1e-6)
    assert weights[1] / weights[0] == pytest.approx((70 / 20) ** power, rel=1e-6)
    assert weights[3] / weights[0] == pytest.approx(7**power, rel=1e-6)
    assert weights[2] == 0


def test_power_one_is_scikit_learns_balanced_weight():
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(labels, 3, 1.0), expected, rtol=1e-6)


def weighted_batch():
    rng = np.random.default_rng(0)
    labels, partners = rng.integers(0, 4, (2, 20)).astype(np.int32)
    shares = rng.uniform(size=20).astype(np.float32)
    return rng.normal(size=(20, 4)), Batch(None, labels, partners, shares)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_loss_is_that_of_the_weighted_target(smoothing):
    logits, batch = weighted_batch()
    weights = np.array([0.5, 1.0, 2.0, 4.0], np.float32)
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = 0
    for labels, share in (
        (batch.labels, batch.shares),
        (batch.partners, 1 - batch.shares),
    ):
        smoothed = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
        target = target + (share * weights[labels])[:, None] * smoothed
    expected = -(target * log_probabilities).sum(1)

    batch = Batch(None, *map(jnp.asarray, batch[1:4]))
    weighted = with_class_weights(batch, jnp.asarray(weights))
    found = batch_losses(jnp.asarray(logits, jnp.float32), weighted, smoothing)

    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_weights_of_one_change_no_bit():
    logits, batch = weighted_batch()
    logits, batch = jnp.asarray(logits), Batch(None, *map(jnp.asarray, batch[1:4]))
    weighted = with_class_weights(batch, jnp.ones(4))
    np.testing.assert_array_equal(
        batch_losses(logits, weighted, 0.1), batch_losses(logits, batch, 0.1)
    )
    assert with_class_weights(batch, None) is batch
