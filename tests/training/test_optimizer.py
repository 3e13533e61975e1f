"""Each optimizer's first steps and each schedule against its formula."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from src.config.names import ScheduleName
from src.training.optimizer import build_optimizer, build_schedule, with_unit_lr

B1, B2, EPSILON, RMS_DECAY, RMS_EPSILON = 0.9, 0.999, 1e-8, 0.9, 1e-8
LR, MOMENTUM = 0.1, 0.8
GRADIENTS = [np.array([[0.5, -2.0]]), np.array([[1.0, 0.25]]), np.array([[-3.0, 0.1]])]


def updates(params, gradients=GRADIENTS, weights=((1.0, -1.0),), **changes):
    """The updates of the first steps."""
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
    """The formulas of the papers in double precision."""
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
def test_first_three_steps_match_the_papers_formula(params, optimizer):
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
    attention = nnx.MultiHeadAttention(2, 4, rngs=nnx.Rngs(0))
    weights = nnx.state(attention, nnx.Param)
    weights = jax.tree.map(jnp.ones_like, weights)
    zero = jax.tree.map(jnp.zeros_like, weights)
    update, _ = optimizer.update(zero, optimizer.init(weights), weights)
    for layer in ("query", "key", "value", "out"):
        assert np.all(update[layer]["kernel"][...] < 0)
        assert not np.any(update[layer]["bias"][...])


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_clipping_scales_the_gradient_only_where_its_norm_is_too_large(params, scale):
    gradient = np.array([[3.0, 4.0]]) * scale
    (found,) = updates(params, [gradient], optimizer="sgd", clip_norm=2.0)
    norm = np.linalg.norm(gradient)
    np.testing.assert_allclose(found, -LR * gradient * min(1, 2 / norm), rtol=1e-6)


def test_clip_value_clips_before_clip_norm(params):
    gradient = np.array([[3.0, -40.0]])
    changes = {"optimizer": "sgd", "clip_value": 4.0, "clip_norm": 2.5}
    (found,) = updates(params, [gradient], **changes)
    np.testing.assert_allclose(found, -LR * np.array([[1.5, -2.0]]), rtol=1e-6)


def test_lion_steps_by_the_sign_of_its_two_means(params):
    """Chen et al. 2023, arXiv:2302.06675, algorithm 2."""
    mean = np.zeros((1, 2))
    for mine, gradient in zip(
        updates(params, optimizer="lion"), GRADIENTS, strict=True
    ):
        expected = -LR * np.sign(0.9 * mean + 0.1 * gradient)
        np.testing.assert_allclose(mine, expected, rtol=1e-6)
        mean = 0.99 * mean + 0.01 * gradient


def test_lamb_scales_adams_step_to_the_weights_norm_after_decay(params):
    """You et al. 2020, arXiv:1904.00962, algorithm 2, with phi the identity."""
    weights, first, second = np.array([[1.0, -1.0]]), 0.0, 0.0
    found = updates(params, optimizer="lamb", weight_decay=0.1)
    for step, (mine, gradient) in enumerate(zip(found, GRADIENTS, strict=True), 1):
        first = B1 * first + (1 - B1) * gradient
        second = B2 * second + (1 - B2) * gradient**2
        adam = first / (1 - B1**step) / (np.sqrt(second / (1 - B2**step)) + 1e-8)
        direction = adam + 0.1 * weights
        ratio = np.linalg.norm(weights) / np.linalg.norm(direction)
        expected = -LR * ratio * direction
        np.testing.assert_allclose(mine, expected, rtol=1e-4)
        weights = weights + expected


def test_muon_makes_the_momentum_orthogonal_and_as_large_as_adams_step(params):
    """Jordan 2024: U V^T of the momentum's singular vectors, values between .6 and 1.3.

    The size is 0.2 sqrt(max(rows, columns)): Liu et al. 2025, arXiv:2502.16982, eq. 4.
    """
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=(6, 4)) for _ in range(3)]
    weights = rng.normal(size=(6, 4)).tolist()
    found = updates(params, gradients, weights, optimizer="muon", momentum=MOMENTUM)
    mean = np.zeros((6, 4))
    for step, (mine, gradient) in enumerate(zip(found, gradients, strict=True), 1):
        mean = MOMENTUM * mean + (1 - MOMENTUM) * gradient
        ahead = MOMENTUM * mean / (1 - MOMENTUM ** (step + 1))
        ahead += (1 - MOMENTUM) * gradient / (1 - MOMENTUM**step)
        left, _, right = np.linalg.svd(ahead, full_matrices=False)
        values = left.T @ (mine / (-LR * 0.2 * np.sqrt(6))) @ right.T
        assert np.all((np.diag(values) > 0.6) & (np.diag(values) < 1.3))
        np.testing.assert_allclose(values, np.diag(np.diag(values)), atol=1e-3)


@pytest.mark.slow
def test_muon_takes_a_convolutions_filters_as_columns(params):
    changes = {"optimizer": "muon", "lr": LR, "schedule": "constant"}
    changes |= {"weight_decay": 0.0, "momentum": MOMENTUM}
    optimizer = build_optimizer(params.model_copy(update=changes), steps_per_epoch=1)
    gradient = np.random.default_rng(1).normal(size=(3, 3, 2, 5)).astype(np.float32)
    found = []
    for shape in [(3, 3, 2, 5), (18, 5)]:
        tree = {"kernel": jnp.asarray(gradient.reshape(shape)), "bias": jnp.ones(5)}
        update, _ = optimizer.update(tree, optimizer.init(tree), tree)
        found.append(np.asarray(update["kernel"]).reshape(18, 5))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-6)
    # Biases get adam's step; the first one is the sign of the gradient.
    np.testing.assert_allclose(update["bias"], -LR * np.ones(5), rtol=1e-5)


def cosine(share):
    return (1 + np.cos(np.pi * share)) / 2


def by_formula(name, step, *, lr, end, total, warmup):
    """Each schedule as in its source, in double precision."""
    share = step / total
    if name in ("constant", "plateau"):
        return lr
    if name == "linear":
        return lr + (end - lr) * share
    if name == "exponential":
        return lr * (end / lr) ** share
    if name == "piecewise":
        return lr * 0.5 ** ((step >= 16) + (step >= 28))
    if name == "cosine":
        return end + (lr - end) * cosine(share)
    down = (step - warmup) / max(total - warmup, 1)
    if name == "warmup_cosine":
        if step < warmup:
            return lr * step / warmup
        return end + (lr - end) * cosine(down)
    if step < warmup:
        return lr / 25 + (lr - lr / 25) * (1 - cosine(step / warmup))
    return lr / 250_000 + (lr - lr / 250_000) * cosine(down)


@pytest.mark.parametrize("warmup_epochs", [0, 1, 2.5, 5])
@pytest.mark.parametrize("name", get_args(ScheduleName))
def test_schedule_follows_its_formula_to_both_ends(params, name, warmup_epochs):
    changes = {"lr": 0.3, "lr_end": 0.003, "epochs": 5, "lr_milestones": (2.0, 3.5)}
    changes |= {"schedule": name, "warmup_epochs": warmup_epochs, "lr_factor": 0.5}
    schedule = build_schedule(params.model_copy(update=changes), steps_per_epoch=8)
    warmup = round(warmup_epochs * 8) if name in ("warmup_cosine", "one_cycle") else 0
    total = max(40, warmup + 1)
    for step in range(total + 1):
        expected = by_formula(name, step, lr=0.3, end=0.003, total=total, warmup=warmup)
        assert float(schedule(step)) == pytest.approx(expected, rel=2e-6, abs=1e-7)


@pytest.mark.parametrize("name", ["cosine", "warmup_cosine", "linear", "exponential"])
def test_schedule_ends_exactly_at_lr_end(params, name):
    changes = {"schedule": name, "lr": 0.0123, "lr_end": 0.000321, "warmup_epochs": 1}
    changed = params.model_copy(update=changes | {"epochs": 3})
    schedule = build_schedule(changed, steps_per_epoch=7)
    assert np.float32(schedule(21)) == np.float32(0.000321)
    assert np.float32(schedule(7 if name == "warmup_cosine" else 0)) == np.float32(
        0.0123
    )
    unit = build_schedule(with_unit_lr(changed), steps_per_epoch=7)
    np.testing.assert_array_max_ulp(
        np.float32(0.0123) * np.float32(unit(21)), np.float32(0.000321), maxulp=1
    )


def test_learning_rate_is_the_peak_in_the_state_times_the_schedule(params):
    changes = {"schedule": "linear", "lr": 1.0, "lr_end": 0.0, "epochs": 1}
    changes |= {"optimizer": "sgd", "weight_decay": 0.0}
    optimizer = build_optimizer(params.model_copy(update=changes), steps_per_epoch=4)
    weights = {"kernel": jnp.ones((1, 2))}
    state = optimizer.init(weights)
    state[-1].hyperparams["peak"] = jnp.float32(0.5)
    for factor in (1.0, 0.75, 0.5, 0.25):
        update, state = optimizer.update(weights, state, weights)
        assert float(state[-1].hyperparams["schedule"]) == factor
        assert update["kernel"].tolist() == [[-0.5 * factor] * 2]


def test_two_milestones_in_one_step_lower_the_rate_twice(params):
    changes = {"schedule": "piecewise", "lr": 1.0, "lr_factor": 0.1}
    changes |= {"lr_milestones": (1.0, 1.1)}
    schedule = build_schedule(params.model_copy(update=changes), steps_per_epoch=3)
    assert [round(float(schedule(step)), 6) for step in (2, 3)] == [1.0, 0.01]
