"""Microbatches against the whole batch."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from src.data.examples import Batch
from src.models.architecture import Architecture
from src.models.checkpoint import weights_of
from src.training.state import build_state
from src.training.step import train_step
from tests.helpers.examples import patterned
from tests.helpers.steps import KEY

STEP = nnx.jit(train_step, static_argnames="params")  # shared: compiled once


def stepped(params, model, accumulate, batch, **changes):
    changes |= {"accumulate": accumulate, "schedule": "constant", "optimizer": "sgd"}
    params = params.model_copy(update={"lr": 0.1, **changes})
    shape = batch.images.shape[1:]
    architecture = Architecture(model, 8, 0.0, image_shape=shape, classes=3)
    train_state = nnx.merge(*build_state(params, architecture, steps_per_epoch=4))
    for _ in range(3):
        loss, _ = STEP(train_state, batch, KEY, params=params)
    return float(loss), weights_of(train_state.model), train_state.metrics.compute()


@pytest.mark.parametrize(
    ("model", "slices"),
    [
        ("mlp", (4,)),
        pytest.param("mlp", (2, 16), marks=pytest.mark.slow),
        pytest.param("cnn", (4,), marks=pytest.mark.slow),
        pytest.param("cnn_max", (4,), marks=pytest.mark.slow),
    ],
)
def test_microbatches_give_the_weights_of_the_whole_batch(params, model, slices):
    batch = Batch(*map(jnp.asarray, patterned(16, seed=0)))
    loss, weights, metrics = stepped(params, model, 1, batch)
    for accumulate in slices:
        sliced_loss, sliced, sliced_metrics = stepped(params, model, accumulate, batch)
        assert sliced_loss == pytest.approx(loss, abs=1e-6)
        for name, array in weights.items():
            np.testing.assert_allclose(sliced[name], array, atol=1e-6, rtol=0)
        assert float(sliced_metrics["accuracy"]) == float(metrics["accuracy"])
        assert float(sliced_metrics["loss"]) == pytest.approx(
            float(metrics["loss"]), rel=1e-6
        )


def test_microbatches_of_mixup_keep_partners_and_shares(params):
    images, labels = patterned(16, seed=0)
    partners, shares = np.roll(labels, 1), np.linspace(0.5, 1, 16, dtype=np.float32)
    batch = Batch(*map(jnp.asarray, (images, labels, partners, shares)))
    loss, weights, _ = stepped(params, "mlp", 1, batch)
    sliced_loss, sliced, _ = stepped(params, "mlp", 4, batch)
    assert sliced_loss == pytest.approx(loss, abs=1e-6)
    for name, array in weights.items():
        np.testing.assert_allclose(sliced[name], array, atol=1e-6, rtol=0)


def test_microbatches_keep_class_weights(params):
    images, labels = patterned(16, seed=0)
    partners, shares = np.roll(labels, 1), np.linspace(0.5, 1, 16, dtype=np.float32)
    weights = np.array([0.2, 1.0, 3.0], np.float32)
    arrays = images, labels, partners, shares, weights[labels], weights[partners]
    batch = Batch(*map(jnp.asarray, arrays))
    loss, weights, _ = stepped(params, "mlp", 1, batch)
    sliced_loss, sliced, _ = stepped(params, "mlp", 4, batch)
    assert sliced_loss == pytest.approx(loss, abs=1e-6)
    for name, array in weights.items():
        np.testing.assert_allclose(sliced[name], array, atol=1e-6, rtol=0)
