"""Cutmix: pixels, labels and shares against the rectangle that was pasted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from src.data.examples import Batch
from src.training.augment_mixing import cut_mix
from src.training.losses import batch_losses

KEY = jax.random.key(7)
CUT_MIX = jax.jit(cut_mix)  # compiled once, not operation by operation


def mixed(count, shape, alpha=1.0):
    """Image `n` has pixels n % 256 and label n; its neighbour is image n - 1."""
    numbers = np.arange(count, dtype=np.int32)
    images = np.empty((count, *shape), np.uint8)
    images[:] = (numbers % 256)[:, None, None, None]
    batch = Batch(jnp.asarray(images), jnp.asarray(numbers))
    found = jax.tree.map(np.asarray, CUT_MIX(batch, KEY, alpha))
    pasted = (found.images != images).all(-1)
    neighbours = np.roll(images, 1, axis=0)
    np.testing.assert_array_equal(found.images[pasted], neighbours[pasted])
    np.testing.assert_array_equal(found.images[~pasted], images[~pasted])
    return found, pasted


def test_cutmix_pastes_one_rectangle():
    found, pasted = mixed(300, (9, 12, 1))
    assert found.images.dtype == np.uint8
    for inside in pasted:
        rows, columns = inside.any(1), inside.any(0)
        np.testing.assert_array_equal(inside, rows[:, None] & columns)
        for line in (rows, columns):
            assert np.abs(np.diff(line.astype(int))).sum() <= 2  # one span


def test_shares_are_the_exact_areas_and_labels_have_the_larger_one():
    found, pasted = mixed(300, (9, 12, 1))
    area = pasted.mean((1, 2))
    number = np.arange(300)
    neighbour = np.roll(number, 1)
    own = np.where(found.labels == number, found.shares, 1 - found.shares)
    np.testing.assert_allclose(own, 1 - area, atol=1e-6)
    assert found.shares.min() >= 0.5
    mostly_other = area > 0.5
    assert mostly_other.any()
    np.testing.assert_array_equal(
        found.labels, np.where(mostly_other, neighbour, number)
    )
    np.testing.assert_array_equal(
        found.partners, np.where(mostly_other, number, neighbour)
    )


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_areas_come_from_the_beta_distribution(alpha):
    # The longer side of the rectangles, against the paper's formula in numpy.
    _, pasted = mixed(3000, (64, 64, 1), alpha)
    height, width = pasted.any(2).sum(1), pasted.any(1).sum(1)
    side = np.maximum(height, width) / 64
    expected = np.sqrt(stats.beta(alpha, alpha).rvs(100_000, random_state=0))
    spans = []
    for _ in range(2):
        centre = np.random.default_rng(len(spans)).integers(0, 64, expected.shape)
        half = np.floor(expected * 64) // 2
        spans.append(np.minimum(centre + half, 64) - np.maximum(centre - half, 0))
    reference = np.maximum(*spans) / 64
    assert stats.ks_2samp(side, reference).pvalue > 1e-3


def test_loss_of_cutmix_is_the_cross_entropy_of_the_mixed_target():
    found, _ = mixed(300, (9, 12, 1))
    logits = np.random.default_rng(0).normal(size=(300, 300))
    target = found.shares[:, None] * np.eye(300)[found.labels]
    target += (1 - found.shares)[:, None] * np.eye(300)[found.partners]
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    losses = batch_losses(jnp.asarray(logits, jnp.float32), Batch(*found), 0.0)
    np.testing.assert_allclose(losses, -(target * log_probabilities).sum(1), rtol=1e-5)
