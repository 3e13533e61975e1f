"""Accumulators on the device against scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, top_k_accuracy_score

from src.evaluation.accumulators import ConfusionCounts, KahanAverage, TopK

RNG = np.random.default_rng(3)
LOGITS = RNG.normal(size=(40, 6)).astype(np.float32)
LABELS = RNG.integers(0, 6, 40, dtype=np.int32)
MASK = RNG.random(40) < 0.7


def counted(metric):
    for part in (slice(0, 16), slice(16, 40)):
        metric.update(
            logits=jnp.asarray(LOGITS[part]),
            labels=jnp.asarray(LABELS[part]),
            mask=jnp.asarray(MASK[part]),
        )
    return metric


def test_masked_confusion_counts_match_scikit_learn():
    expected = confusion_matrix(LABELS[MASK], LOGITS[MASK].argmax(1), labels=range(6))
    found = counted(ConfusionCounts(6)).compute()
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_masked_top_k_matches_scikit_learn(k):
    expected = top_k_accuracy_score(LABELS[MASK], LOGITS[MASK], k=k, labels=range(6))
    assert float(counted(TopK(k)).compute()) == pytest.approx(expected, abs=1e-7)


def test_reset_forgets_everything():
    metric = counted(ConfusionCounts(6))
    metric.reset()
    assert not np.any(metric.compute())


def test_first_class_ranks_higher_among_equal_scores():
    metric = TopK(2)
    labels = jnp.arange(4, dtype=jnp.int32)
    metric.update(logits=jnp.zeros((4, 4)), labels=labels, mask=jnp.ones(4, bool))
    assert float(metric.compute()) == 0.5


def test_small_losses_after_large_ones_are_not_lost_to_rounding():
    metric = KahanAverage("loss")
    large, small = np.full(32, 2.3, np.float32), np.full(32, 1.7e-4, np.float32)
    for _ in range(1000):
        metric.update(loss=jnp.asarray(large))
    before = float(metric.total[...]) - float(metric.compensation[...])
    for _ in range(50):
        metric.update(loss=jnp.asarray(small))
    after = float(metric.total[...]) - float(metric.compensation[...])
    assert after - before == pytest.approx(
        50 * float(small.astype(float).sum()), rel=1e-4
    )
    assert int(metric.count[...]) == 1050 * 32
    metric.reset()
    assert float(metric.total[...]) == float(metric.compensation[...]) == 0
