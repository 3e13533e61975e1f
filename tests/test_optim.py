"""The chain: each optimizer's first steps and each schedule against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from src.optim import build_optimizer, build_schedule

B1, B2, EPSILON, RMS_DECAY, RMS_EPSILON = 0.9, 0.999, 1e-8, 0.9, 1e-8
LR, MOMENTUM = 0.1, 0.8
GRADIENTS = [np.array([[0.5, -2.0]]), np.array([[1.0, 0.25]]), np.array([[-3.0, 0.1]])]


def updates(params, gradients=GRADIENTS, weights=((1.0, -1.0),), **changes):
    """What the optimizer adds to the weights, step by step."""
    changes = {"lr": LR, "schedule": "constant", "weight_decay": 0.0} | changes
    optimizer = build_optimizer(params.model_copy(update=changes), steps_per_epoch=10)
    kernel = {"kernel": jnp.array(weights)}
    state = optimizer.init(kernel)
    found = []
    for gradient in gradients:
        update, state = optimizer.update({"kernel": jnp.array(gradient)}, state, kernel)
        kernel = jax.tree.map(jnp.add, kernel, update)
        found.append(np.asarray(update["kernel"]))
    return found


def by_hand(optimizer):
    """The papers' formulas, in double precision."""
    first = second = velocity = np.zeros((1, 2))
    for step, gradient in enumerate(GRADIENTS, start=1):
        if optimizer == "sgd":
            yield -LR * gradient
        elif optimizer in ("momentum", "nesterov"):
            velocity = MOMENTUM * velocity + gradient
            ahead = MOMENTUM * velocity + gradient
            yield -LR * (ahead if optimizer == "nesterov" else velocity)
        elif optimizer == "rmsprop":
            second = RMS_DECAY * second + (1 - RMS_DECAY) * gradient**2
            yield -LR * gradient / np.sqrt(second + RMS_EPSILON)
        else:
            first = B1 * first + (1 - B1) * gradient
            second = B2 * second + (1 - B2) * gradient**2
            mean, square = first / (1 - B1**step), second / (1 - B2**step)
            yield -LR * mean / (np.sqrt(square) + EPSILON)


@pytest.mark.parametrize(
    "optimizer", ["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop"]
)
def test_first_three_steps_follow_the_papers_formula(params, optimizer):
    found = updates(params, optimizer=optimizer, momentum=MOMENTUM)
    for mine, expected in zip(found, by_hand(optimizer), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4)  # 1 - b2 in float32


@pytest.mark.parametrize(
    "optimizer", ["sgd", "momentum", "nesterov", "adamw", "rmsprop"]
)
def test_weight_decay_is_decoupled(params, optimizer):
    zero = [np.zeros((1, 2))]
    (found,) = updates(params, zero, optimizer=optimizer, weight_decay=0.5)
    np.testing.assert_allclose(found, [[-LR * 0.5 * 1.0, LR * 0.5 * 1.0]], rtol=1e-6)


def test_adam_has_no_weight_decay(params):
    (found,) = updates(params, [np.zeros((1, 2))], optimizer="adam", weight_decay=0.5)
    assert not found.any()


def test_weight_decay_leaves_biases_alone(params):
    changes = {"optimizer": "sgd", "weight_decay": 0.5, "schedule": "constant"}
    optimizer = build_optimizer(params.model_copy(update=changes), steps_per_epoch=1)
    weights = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    zero = jax.tree.map(jnp.zeros_like, weights)
    update, _ = optimizer.update(zero, optimizer.init(weights), weights)
    assert np.all(update["kernel"] < 0)
    assert not np.any(update["bias"])


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_clipping_scales_the_gradient_only_where_its_norm_is_too_large(params, scale):
    gradient = np.array([[3.0, 4.0]]) * scale
    (found,) = updates(params, [gradient], optimizer="sgd", clip_norm=2.0)
    norm = np.linalg.norm(gradient)
    np.testing.assert_allclose(found, -LR * gradient * min(1, 2 / norm), rtol=1e-6)


def test_constant_schedule_is_constant(params):
    changes = {"schedule": "constant", "lr": 0.3}
    schedule = build_schedule(params.model_copy(update=changes), steps_per_epoch=7)
    assert {float(schedule(step)) for step in (0, 1, 20)} == {0.3}


@pytest.mark.parametrize("warmup_epochs", [0, 1, 2.5, 5])
def test_warmup_cosine_follows_its_formula_to_both_ends(params, warmup_epochs):
    changes = {
        "schedule": "warmup_cosine",
        "lr": 0.3,
        "epochs": 5,
        "warmup_epochs": warmup_epochs,
    }
    schedule = build_schedule(params.model_copy(update=changes), steps_per_epoch=8)
    warmup, total = round(warmup_epochs * 8), 40
    for step in range(total + 1):
        if step < warmup:
            expected = 0.3 * step / warmup
        elif step == warmup:
            expected = 0.3
        else:
            share = (step - warmup) / (total - warmup)
            expected = 0.15 * (1 + np.cos(np.pi * share))
        assert float(schedule(step)) == pytest.approx(expected, abs=1e-7)
