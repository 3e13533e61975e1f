"""The four beats against numpy by hand, and the compiled chunk against them."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.metrics import confusion_matrix, top_k_accuracy_score

from src.config.names import OptimizerName
from src.data.examples import Batch, Examples
from src.models.architecture import Architecture
from src.models.checkpoint import weights_of
from src.training.augment import augment
from src.training.batches import BatchBlock, DeviceBatches
from src.training.chunk import ChunkSpan, run_chunk
from src.training.state import build_state, with_empty_metrics
from src.training.step import AUGMENT_STREAM, train_step
from src.training.validation import score
from tests.helpers.examples import patterned
from tests.helpers.steps import KEY, run_steps
from tests.helpers.training import TINY

DROPPING = Architecture("mlp", hidden=64, dropout=0.5, image_shape=(8, 8, 1), classes=3)
CONVOLUTIONAL = Architecture("cnn", 8, 0.0, image_shape=(8, 8, 1), classes=3)
OPTIMIZERS = get_args(OptimizerName)
STEP = nnx.jit(train_step, static_argnames="params")  # shared: compiled once


def on_device(split):
    return Examples(jnp.asarray(split.images), jnp.asarray(split.labels))


def network(graphdef, state):
    return nnx.merge(graphdef, state).model


def batch_of(split):
    return Batch(*on_device(split))


def start(params, architecture=TINY, **changes):
    params = params.model_copy(update={"schedule": "constant", **changes})
    return build_state(params, architecture, steps_per_epoch=4)


def numpy_loss_and_gradients(weights, images, labels):
    """Forward pass, loss and chain rule in double precision."""
    pixels = images.reshape(len(images), -1) / 255.0
    before = pixels @ weights["dense.kernel"] + weights["dense.bias"]
    hidden = np.maximum(before, 0)
    logits = hidden @ weights["output.kernel"] + weights["output.bias"]
    odds = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = odds / odds.sum(1, keepdims=True)
    losses = -np.log(probabilities[np.arange(len(labels)), labels])
    slope = (probabilities - np.eye(logits.shape[1])[labels]) / len(labels)
    hidden_slope = (slope @ weights["output.kernel"].T) * (before > 0)
    gradients = {
        "output.kernel": hidden.T @ slope,
        "output.bias": slope.sum(0),
        "dense.kernel": pixels.T @ hidden_slope,
        "dense.bias": hidden_slope.sum(0),
    }
    return losses.mean(), gradients


def doubles(model):
    return {name: array.astype(np.float64) for name, array in weights_of(model).items()}


def test_loss_and_gradients_match_the_chain_rule_in_numpy(params):
    graphdef, state = start(params)
    train_state = nnx.merge(graphdef, state)
    batch = patterned(7, seed=0)
    expected_loss, expected = numpy_loss_and_gradients(
        doubles(train_state.model), *batch
    )

    loss, gradient = STEP(train_state, batch_of(batch), KEY, params=params)

    assert loss == pytest.approx(expected_loss, rel=1e-6)
    found = {
        ".".join(path): np.asarray(leaf[...])
        for path, leaf in nnx.to_flat_state(gradient)
    }
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-7)


def test_three_sgd_steps_match_numpy(params):
    graphdef, state = start(params, optimizer="sgd", lr=0.1, weight_decay=0.0)
    train_state = nnx.merge(graphdef, state)
    expected = doubles(train_state.model)
    for seed in range(3):
        batch = patterned(7, seed=seed)
        _, gradients = numpy_loss_and_gradients(expected, *batch)
        expected = {name: expected[name] - 0.1 * gradients[name] for name in expected}
        STEP(train_state, batch_of(batch), KEY, params=params)
    for name, array in weights_of(train_state.model).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(name, marks=() if name == "adamw" else pytest.mark.slow)
        for name in OPTIMIZERS
    ],
)
def test_every_optimizer_moves_every_parameter(params, optimizer):
    # The others treat a convolution's kernel as any other array.
    architecture = CONVOLUTIONAL if optimizer in ("lamb", "muon") else TINY
    graphdef, state = start(params, architecture, optimizer=optimizer, lr=0.01)
    before = weights_of(network(graphdef, state))
    split = on_device(patterned(64, seed=0))
    indices = jnp.arange(64, dtype=jnp.int32).reshape(4, 16)

    state, _ = run_steps(state, split, indices, 0, 4, graphdef=graphdef, params=params)

    for name, array in weights_of(network(graphdef, state)).items():
        assert np.all(np.isfinite(array))
        assert np.any(array != before[name]), name


def test_scoring_changes_no_state(params):
    graphdef, state = start(params, DROPPING)
    before = jax.device_get(state)
    score(state, graphdef, DeviceBatches(patterned(50, seed=0)), classes=3, top_k=2)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), before)


def test_chunk_equals_its_steps_taken_one_by_one(params):
    split = on_device(patterned(64, seed=0))
    indices = jnp.arange(64, dtype=jnp.int32)[::-1].reshape(4, 16)
    graphdef, state = start(params, DROPPING)
    train_state = nnx.merge(graphdef, jax.tree.map(jnp.copy, state))
    for index in range(4):
        batch = Batch(split.images[indices[index]], split.labels[indices[index]])
        STEP(train_state, batch, jax.random.fold_in(KEY, index), params=params)

    state, chunk = run_steps(
        state, split, indices, 0, 4, graphdef=graphdef, params=params
    )

    expected = weights_of(train_state.model)
    for name, array in weights_of(network(graphdef, state)).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-6)
    assert chunk.sums.examples == 64
    assert chunk.sums.loss == pytest.approx(
        float(train_state.metrics.loss.total[...]), rel=1e-5
    )


@pytest.mark.parametrize("stops", [[1, 2, 3, 4], [3, 4], [4]])
def test_chunk_boundaries_change_no_bit(params, stops):
    split = on_device(patterned(64, seed=0))
    indices = jnp.arange(64, dtype=jnp.int32).reshape(4, 16)
    graphdef, state = start(params, DROPPING)
    expected, _ = run_steps(
        jax.tree.map(jnp.copy, state),
        split,
        indices,
        0,
        4,
        graphdef=graphdef,
        params=params,
    )
    for begin, end in zip([0, *stops], stops, strict=False):
        state, _ = run_steps(
            state, split, indices, begin, end, graphdef=graphdef, params=params
        )
    jax.tree.map(
        np.testing.assert_array_equal, jax.device_get(state), jax.device_get(expected)
    )


def test_chunks_of_every_length_and_learning_rate_share_one_compilation(params):
    split = on_device(patterned(64, seed=0))
    indices = jnp.arange(64, dtype=jnp.int32).reshape(4, 16)
    params = params.model_copy(update={"label_smoothing": 0.0123})  # in no other test
    before = run_chunk._cache_size()
    for lr in (0.1, 0.03):
        graphdef, state = start(params, TINY, lr=lr)
        for begin, end in [(0, 1), (1, 4), (0, 3)]:
            state, result = run_steps(
                state, split, indices, begin, end, graphdef=graphdef, params=params
            )
            assert float(result.lr) == np.float32(lr)
            state = with_empty_metrics(state)
    assert run_chunk._cache_size() - before == 1


def test_dropout_differs_between_steps(params):
    batch = on_device(patterned(16, seed=0))
    graphdef, state = start(
        params, DROPPING, optimizer="sgd", lr=1e-12, weight_decay=0.0
    )
    indices = jnp.tile(jnp.arange(16, dtype=jnp.int32), (2, 1))
    state, first = run_steps(
        state, batch, indices, 0, 1, graphdef=graphdef, params=params
    )
    _, second = run_steps(state, batch, indices, 1, 2, graphdef=graphdef, params=params)
    assert first.loss != second.loss


def test_chunk_ends_after_the_step_whose_loss_is_not_finite(params):
    split = on_device(patterned(64, seed=0))
    indices = jnp.arange(64, dtype=jnp.int32).reshape(4, 16)
    graphdef, state = start(params, TINY, optimizer="sgd", lr=1e38)
    _, chunk = run_steps(state, split, indices, 0, 4, graphdef=graphdef, params=params)
    assert not np.isfinite(chunk.loss)
    assert 1 < chunk.steps < 4


@pytest.mark.parametrize(
    "count",
    [257, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 255, 256, 600))],
)
def test_score_counts_each_example_once_whatever_the_last_batch(params, count):
    graphdef, state = start(params, TINY)
    split = patterned(count, seed=5)
    weights = doubles(network(graphdef, state))
    loss, _ = numpy_loss_and_gradients(weights, *split)

    sums = score(state, graphdef, DeviceBatches(split), classes=3, top_k=2)

    assert float(sums.loss.total[...]) / count == pytest.approx(loss, rel=1e-5)
    logits = np.asarray(network(graphdef, state)(jnp.asarray(split.images)))
    expected = confusion_matrix(split.labels, logits.argmax(1), labels=range(3))
    np.testing.assert_array_equal(sums.confusion.counts[...], expected)
    within = top_k_accuracy_score(split.labels, logits, k=2, labels=range(3))
    assert float(sums.top_k.total[...]) / count == pytest.approx(within, abs=1e-9)


def test_step_trains_on_the_augmented_images(params):
    split = on_device(patterned(16, seed=0))
    indices = jnp.arange(16, dtype=jnp.int32).reshape(1, 16)
    graphdef, state = start(params, TINY)
    weights = doubles(network(graphdef, state))
    flipping = params.model_copy(update={"augment": ("flip",)})
    key = jax.random.fold_in(jax.random.fold_in(KEY, 0), AUGMENT_STREAM)
    images = np.asarray(augment(split, key, flipping).images)
    expected, _ = numpy_loss_and_gradients(weights, images, np.asarray(split.labels))
    _, chunk = run_steps(
        state, split, indices, 0, 1, graphdef=graphdef, params=flipping
    )
    assert float(chunk.loss) == pytest.approx(expected, rel=1e-6)
    plain, _ = numpy_loss_and_gradients(weights, *patterned(16, seed=0))
    assert float(chunk.loss) != pytest.approx(plain, rel=1e-4)


def test_label_smoothing_applies_to_training_only(params):
    split = on_device(patterned(16, seed=0))
    indices = jnp.arange(16, dtype=jnp.int32).reshape(1, 16)
    graphdef, state = start(params, TINY)
    logits = np.asarray(network(graphdef, state)(split.images), np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = 0.7 * np.eye(3)[np.asarray(split.labels)] + 0.3 / 3
    smoothed = -(target * log_probabilities).sum(1).mean()
    plain, _ = numpy_loss_and_gradients(
        doubles(network(graphdef, state)), *patterned(16, seed=0)
    )
    scored = score(state, graphdef, DeviceBatches(split), classes=3, top_k=2)
    smoothing = params.model_copy(update={"label_smoothing": 0.3})
    _, chunk = run_steps(
        state, split, indices, 0, 1, graphdef=graphdef, params=smoothing
    )
    assert float(chunk.loss) == pytest.approx(smoothed, rel=1e-5)
    assert float(scored.loss.total[...]) / 16 == pytest.approx(plain, rel=1e-5)


def test_class_weights_apply_to_training_only(params):
    split = on_device(patterned(16, seed=0))
    indices = jnp.arange(16, dtype=jnp.int32).reshape(1, 16)
    graphdef, state = start(params, TINY)
    logits = np.asarray(network(graphdef, state)(split.images), np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    labels = np.asarray(split.labels)
    losses = -log_probabilities[np.arange(16), labels]
    weights = np.array([0.5, 1.0, 3.0])
    scored = score(state, graphdef, DeviceBatches(split), classes=3, top_k=2)
    block = BatchBlock(split, indices, 0, 1, jnp.asarray(weights, jnp.float32))
    span = ChunkSpan(0, 1, 1, 0)
    _, chunk = run_chunk(state, block, span, KEY, graphdef=graphdef, params=params)
    assert float(chunk.loss) == pytest.approx(
        (weights[labels] * losses).mean(), rel=1e-5
    )
    assert float(scored.loss.total[...]) == pytest.approx(losses.sum(), rel=1e-5)
