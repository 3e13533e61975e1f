"""Skipped steps and the loss scale, against a reference in plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from src.config.load import load_params
from src.data.examples import Batch, Examples
from src.models.checkpoint import weights_of
from src.training.loss_scale import (
    DOUBLE_AFTER,
    FIRST_SCALE,
    REMEMBERED,
    LossScaler,
    build_loss_scaler,
)
from src.training.losses import cross_entropy
from src.training.state import build_state
from src.training.step import train_step
from tests.helpers.examples import patterned
from tests.helpers.imports import ROOT
from tests.helpers.steps import KEY, run_steps
from tests.helpers.training import TINY

PARAMS = load_params(ROOT / "params.yaml").model_copy(
    update={"schedule": "constant", "batch_size": 16, "weight_decay": 0.0}
)


def loss_scaler(**changes):
    return LossScaler(PARAMS.model_copy(update=changes))


UPDATE = nnx.jit(lambda scaler, finite, step: scaler.update(finite, step))


def follow(scaler, flags):
    for step, finite in enumerate(flags, start=1):
        UPDATE(scaler, jnp.bool(finite), jnp.int32(step))
    return scaler


def by_hand(flags):
    """Loss scale, consecutive and skipped steps in float16, as in the paper."""
    scale, good, row, skipped = FIRST_SCALE, 0, 0, []
    for step, finite in enumerate(flags, start=1):
        if finite:
            good, row = good + 1, 0
            if good == DOUBLE_AFTER:
                scale, good = min(2 * scale, FIRST_SCALE), 0
        else:
            skipped.append(step)
            row = row + 1 if scale == 1 else 0
            scale, good = max(scale / 2, 1), 0
    return scale, row, skipped


@pytest.mark.parametrize(
    "flags",
    [
        [True] * 3,
        [False] * 3,
        [True, False, True, False, False, True],
        [False] * 17,
        [False] * 18 + [True],
        [False, *[True] * DOUBLE_AFTER, True],
        [False, *[True] * (DOUBLE_AFTER - 1), False],
        [*[True] * DOUBLE_AFTER],
    ],
)
def test_loss_scale_halves_on_overflow_and_doubles_after_many_good_steps(flags):
    scaler = follow(loss_scaler(precision="float16"), flags)
    scale, row, skipped = by_hand(flags)
    assert float(scaler.scale[...]) == scale
    assert int(scaler.consecutive[...]) == row
    assert int(scaler.skipped[...]) == len(skipped)
    assert scaler.steps[: len(skipped)].tolist() == skipped


def test_latest_skipped_steps_are_kept():
    scaler = follow(loss_scaler(on_nan="skip"), [False] * (REMEMBERED + 3))
    latest = {REMEMBERED + 1, REMEMBERED + 2, REMEMBERED + 3}
    assert set(scaler.steps[:3].tolist()) == latest


@pytest.mark.parametrize(("on_nan", "lost_after"), [("skip", 5), ("stop", 1)])
def test_diverged_after_five_consecutive_skips_or_one_with_stop(on_nan, lost_after):
    scaler = loss_scaler(on_nan=on_nan)
    for step in range(1, lost_after + 1):
        assert not scaler.diverged
        scaler.update(jnp.bool(False), jnp.int32(step))
    assert scaler.diverged


def test_finite_step_resets_the_consecutive_skips():
    scaler = follow(loss_scaler(on_nan="skip"), [False] * 4 + [True] + [False] * 4)
    assert not scaler.diverged
    assert int(scaler.skipped[...]) == 8


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, False),
        ({"on_nan": "skip"}, True),
        ({"precision": "float16"}, True),
        ({"precision": "bfloat16"}, False),
    ],
)
def test_loss_scaler_exists_only_where_needed(changes, wanted):
    assert (build_loss_scaler(PARAMS.model_copy(update=changes)) is not None) == wanted


def chunk_of(stop, **changes):
    params = PARAMS.model_copy(update=changes)
    graphdef, state = build_state(params, TINY, steps_per_epoch=8)
    split = Examples(*map(jnp.asarray, patterned(128, seed=0)))
    indices = jnp.arange(128, dtype=jnp.int32).reshape(8, 16)
    return graphdef, *run_steps(
        state, split, indices, 0, stop, graphdef=graphdef, params=params
    )


# After one step at this rate the weights are so large that the next loss is infinite.
WILD = {"optimizer": "momentum", "lr": 1e38}


def test_skipped_steps_leave_weights_and_optimizer_unchanged():
    graphdef, before, first = chunk_of(1, on_nan="skip", **WILD)
    _, after, chunk = chunk_of(4, on_nan="skip", **WILD)
    assert int(first.skips.total) == 0
    assert int(chunk.skips.total) == 3
    assert chunk.skips.steps[:3].tolist() == [2, 3, 4]
    assert not chunk.diverged
    old, new = nnx.merge(graphdef, before), nnx.merge(graphdef, after)
    for part in ("model", "optimizer", "metrics"):
        jax.tree.map(
            np.testing.assert_array_equal,
            jax.device_get(nnx.state(getattr(new, part))),
            jax.device_get(nnx.state(getattr(old, part))),
        )


def test_chunk_ends_at_the_fifth_consecutive_skip():
    _, _, chunk = chunk_of(8, on_nan="skip", **WILD)
    assert chunk.diverged
    assert int(chunk.steps) == 6


@pytest.mark.optimized
def test_loss_scaler_changes_no_bit_of_a_finite_run():
    found = []
    for on_nan in ("stop", "skip"):
        graphdef, state, _ = chunk_of(8, on_nan=on_nan)
        found.append(weights_of(nnx.merge(graphdef, state).model))
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])


def test_loss_scale_does_not_change_gradients_and_loss():
    found = []
    for scale in (1.0, 1024.0):
        params = PARAMS.model_copy(update={"on_nan": "skip"})
        train_state = nnx.merge(*build_state(params, TINY, steps_per_epoch=8))
        train_state.loss_scaler.scale[...] = jnp.float32(scale)
        batch = Batch(*map(jnp.asarray, patterned(16, seed=0)))
        step = nnx.jit(train_step, static_argnames="params")
        found.append(step(train_state, batch, KEY, params=params))
    # A power of two changes only exponents.
    jax.tree.map(np.testing.assert_array_equal, *map(jax.device_get, found))


def test_float16_finds_a_loss_scale_without_overflow():
    params = PARAMS.model_copy(update={"precision": "float16", "lr": 0.01})
    graphdef, state = build_state(params, TINY, steps_per_epoch=60)
    train_state = nnx.merge(graphdef, state)
    train_state.loss_scaler.scale[...] = jnp.float32(2.0**40)
    split = Examples(*map(jnp.asarray, patterned(128, seed=0)))
    indices = jnp.tile(jnp.arange(16, dtype=jnp.int32), (60, 1))
    _, chunk = run_steps(
        nnx.state(train_state),
        split,
        indices,
        0,
        60,
        8,
        graphdef=graphdef,
        params=params,
    )
    halvings = int(chunk.skips.total)
    assert float(chunk.skips.scale) == 2.0 ** (40 - halvings)
    assert 0 < halvings < 40
    # The first steps overflowed; their numbers are recorded.
    assert chunk.skips.steps[:halvings].tolist() == list(range(9, 9 + halvings))
    assert np.isfinite(chunk.loss)


def test_ema_ignores_skipped_steps():
    averages = []
    for stop in (1, 4):
        graphdef, state, _ = chunk_of(stop, on_nan="skip", ema_decay=0.5, **WILD)
        averages.append(weights_of(nnx.merge(graphdef, state).ema))
    for name, array in averages[0].items():
        np.testing.assert_array_equal(array, averages[1][name])


@pytest.mark.parametrize("clip", [{"clip_norm": 1.0}, {"clip_value": 1.0}])
def test_gradient_that_clipping_would_hide_ends_the_chunk(monkeypatch, clip):
    def steep(logits, batch, smoothing):
        del smoothing
        # Loss and gradient are finite; the norm of the gradient is not.
        return cross_entropy(logits, batch.labels, 0.0) * 1e25

    monkeypatch.setattr("src.training.step.batch_losses", steep)
    _, _, chunk = chunk_of(8, lr=0.0312, **clip)
    assert chunk.diverged
    assert int(chunk.steps) == 1
