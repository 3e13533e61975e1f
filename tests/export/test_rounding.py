"""How far a correct file may differ from the network, compared with float64."""

from math import sqrt

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from src.export.replacing import with_replaced
from src.export.rounding import (
    SMALLEST,
    UNIT,
    allowed_differences,
    largest_size,
    logit_error,
    sum_lengths,
)
from src.models.architecture import Architecture
from src.models.build import build_model
from src.models.plain import plain_model
from tests.helpers.formats import graph_for, play, play_onnx
from tests.helpers.user_model import blocks, undecided, user_model


def cnn(size, seed):
    architecture = Architecture("cnn", 16, 0.0, image_shape=(size, size, 1), classes=5)
    return plain_model(build_model(architecture, nnx.Rngs(params=seed)))


def test_sums_are_those_of_every_layer():
    assert sum_lengths(cnn(28, 0), (28, 28, 1)) == (9, 9 * 32, 7 * 7 * 64, 16)


def test_sums_inside_of_conditions_and_loops_count():
    def logits(images):
        flat = images.reshape(1, 12).astype(jnp.float32)
        rolled = lax.scan(lambda x, _: (x @ jnp.eye(12), None), flat, None, 3)[0]
        chosen = lax.cond(flat[0, 0] > 0, lambda x: x @ jnp.ones((12, 2)), head, rolled)
        return chosen + rolled.sum(1, keepdims=True)

    def head(x):
        return x[:, :5] @ jnp.ones((5, 2))

    assert sorted(sum_lengths(logits, (3, 4, 1))) == [5, 12, 12, 12]


def test_error_of_the_logits_is_the_formula_of_the_docstring():
    """Of a network whose last layer cancels: 2000 - 2000."""
    weights = np.array([[1000, 0], [-1000, 0], [0, 3]], np.float32)

    def logits(images):
        return images.reshape(-1, 3).astype(jnp.float32) @ jnp.asarray(weights)

    images = np.array([[[[1], [1], [2]]], [[[2], [2], [1]]]], np.uint8)
    found = logit_error(logits, images)
    assert found == pytest.approx(2.0**-24 * sqrt(3) * 4000, rel=1e-6)


def test_error_counts_what_an_early_layer_amplifies():
    """A small deviation magnifies the rounding of a pixel, compared with float64."""
    mean, deviation = np.float32(200.3 / 255), np.float32(1e-4)
    weights = np.full((3, 2), 0.01, np.float32)

    def logits(images):
        pixels = images.reshape(-1, 3).astype(jnp.float32) / 255
        return (pixels - mean) / deviation @ jnp.asarray(weights)

    images = np.random.default_rng(0).integers(199, 202, (64, 1, 3, 1), np.uint8)
    pixels = images.reshape(-1, 3) / 255
    exact = (pixels - np.float64(mean)) / np.float64(deviation) @ np.float64(weights)
    found = np.abs(np.asarray(logits(images)) - exact).max()
    error = logit_error(logits, images)
    assert found <= error <= 20 * found
    assert UNIT * sqrt(3) * largest_size(logits, images) < found


def test_bound_follows_from_the_logits_error_and_how_sure_an_answer_is():
    expected = np.array([[0.5, 0.5, 0.0], [0.9, 0.1, 0.0], [1.0, 0.0, 0.0]])
    found = allowed_differences(expected, 1e-3)
    np.testing.assert_allclose(found, [5e-4, 1.8e-4, SMALLEST])
    assert allowed_differences(expected, 1e-9).tolist() == [SMALLEST] * 3


@pytest.mark.parametrize(
    ("size", "seed"),
    [
        (28, 0),
        pytest.param(64, 1, marks=pytest.mark.slow),
        pytest.param(224, 2, marks=pytest.mark.slow),
        pytest.param(224, 3, marks=pytest.mark.slow),
    ],
)
def test_float32_stays_within_the_bound_of_a_float64_evaluation(size, seed):
    shape = size, size, 1
    images = blocks(shape, 8, seed)
    for network in (cnn(size, seed), user_model(1, 5, seed)):
        model = undecided(network, images)
        graph = graph_for(model, shape)
        doubled = {name: np.float64(each) for name, each in graph.constants.items()}
        exact = play(graph._replace(constants=doubled), images)
        allowed = allowed_differences(exact, logit_error(model, images))
        own = np.asarray(nnx.softmax(model(jnp.asarray(images))))
        for found in (own, play(graph, images), play_onnx(graph, images)):
            assert found.dtype == np.float32
            assert (np.abs(found - exact).max(1) <= allowed / 2).all()
            assert (found.argmax(1) == exact.argmax(1)).all()


@pytest.mark.parametrize("size", [28, pytest.param(224, marks=pytest.mark.slow)])
def test_wrong_network_is_far_beyond_the_bound(size):
    """The weights of one class that are 1 % off."""
    shape = size, size, 1
    images = blocks(shape, 8)
    model = undecided(cnn(size, 0), images)
    expected = np.float64(nnx.softmax(model(jnp.asarray(images))))
    allowed = allowed_differences(expected, logit_error(model, images))
    model.output.kernel[...] = model.output.kernel[...].at[:, 1].multiply(1.01)
    wrong = np.asarray(nnx.softmax(model(jnp.asarray(images))))
    assert (np.abs(wrong - expected).max(1) > 3 * allowed).any()


def test_reduction_by_a_function_is_no_call():
    """Its program joins two numbers; it does not take the operands of the reduction."""

    def largest_gap(images):
        start = np.float32(0)
        return lax.reduce(images, start, lambda one, two: abs(one - two), (1,))

    images = np.random.default_rng(0).random((3, 5), np.float32)
    found = with_replaced(largest_gap, {})(images)
    np.testing.assert_array_equal(found, largest_gap(images))
