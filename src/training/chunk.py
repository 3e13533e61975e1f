"""The compiled loop over many training steps.

A jitted step called from Python costs about a millisecond per call, which is more than
a whole step of a small network. So the data stays on the device and one compiled loop
takes a chunk of steps. Between chunks Python logs, saves and stops.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from src.config.params import Params
from src.sharding import constrain_state
from src.training.batches import BatchBlock
from src.training.ema import update_ema
from src.training.optimizer import learning_rate
from src.training.state import TrainGraph, TrainState
from src.training.step import step_batch, train_step


class ChunkSpan(NamedTuple):
    """The steps of a chunk, counted from 0 within the epoch."""

    start: int  # the first step
    stop: int  # the step before which the chunk ends, > start
    row_end: int  # where the current row of steps.csv ends, >= stop
    steps_before: int  # steps of the epochs before


class MetricSums(NamedTuple):
    """Sums of the training metrics since the epoch began."""

    loss: jax.Array  # float32 (), nats
    compensation: jax.Array  # float32 (); the exact sum is loss - compensation
    correct: jax.Array  # float32 (), a whole number
    examples: jax.Array  # int32 ()


class SkippedSteps(NamedTuple):
    """Steps that were skipped because a loss or gradient was not finite."""

    total: jax.Array  # int32 (), since training began
    steps: jax.Array  # int32 [64], the latest step numbers, a ring buffer
    scale: jax.Array  # float32 (), the loss scale


class ChunkResult(NamedTuple):
    """What Python learns when a chunk ends."""

    sums: MetricSums
    steps: jax.Array  # int32 (), steps of this epoch taken
    lr: jax.Array  # float32 (), of the last step
    loss: jax.Array  # float32 (), of the last step
    grad_norm: jax.Array  # float32 (), before clipping; 0 within a row of steps.csv
    diverged: jax.Array  # bool (), training cannot recover
    skips: SkippedSteps | None  # None without a loss scaler


class Carry(NamedTuple):
    """The loop variables of a chunk."""

    step_in_epoch: jax.Array  # int32 (), the next step
    state: nnx.State
    loss: jax.Array
    grad_norm: jax.Array
    diverged: jax.Array


@partial(jax.jit, static_argnames=("graphdef", "params"), donate_argnames="state")
def run_chunk(
    state: nnx.State,
    block: BatchBlock,
    span: ChunkSpan,
    key: jax.Array,
    *,
    graphdef: TrainGraph,
    params: Params,
) -> tuple[nnx.State, ChunkResult]:
    """Takes the steps of `span`; one compilation serves all spans.

    Stops early after a step that diverged.

    Args:
        state: of the `TrainState`; donated: its buffers are reused for the result.
        block: the training examples on the device, and the batch of each step.
        span: which steps.
        key: the key of all steps; each step folds its number into it.
        graphdef: of the `TrainState`.
        params: from `with_unit_lr`: the learning rate is in `state`.
    """

    def body(carry: Carry) -> Carry:
        # copy=True: a skipped step restores carry.state, which must stay unchanged.
        train_state = nnx.merge(graphdef, carry.state, copy=True)
        step = span.steps_before + carry.step_in_epoch  # steps taken so far
        step_key = jax.random.fold_in(key, step)
        indices = block.batch_indices[carry.step_in_epoch]
        batch = step_batch(block, indices, step_key, params)
        loss, grads = train_step(train_state, batch, step_key, params)
        if train_state.ema is not None:
            update_ema(train_state.ema, train_state.model, params.ema_decay, step + 1)
        step_in_epoch = carry.step_in_epoch + 1
        norm = norm_if_needed(grads, loss, step_in_epoch == span.row_end, params)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        diverged = ~finite
        state = nnx.state(train_state)
        if train_state.loss_scaler is not None:
            kept = nnx.merge(graphdef, where_state(finite, state, carry.state))
            kept.loss_scaler.update(finite, step + 1)
            state, diverged = nnx.state(kept), kept.loss_scaler.diverged
        return Carry(step_in_epoch, constrain_state(state), loss, norm, diverged)

    def unfinished(carry: Carry) -> jax.Array:
        return (carry.step_in_epoch < span.stop) & ~carry.diverged

    zero = jnp.float32(0)
    first = Carry(jnp.int32(span.start), state, zero, zero, jnp.bool(False))
    last = jax.lax.while_loop(unfinished, body, first)
    return last.state, chunk_result(nnx.merge(graphdef, last.state), last)


def norm_if_needed(
    grads: nnx.State, loss: jax.Array, ends_row: jax.Array, params: Params
) -> jax.Array:
    """Global norm of the gradients where it is logged or checked, 0 elsewhere.

    The norm costs a pass over all gradients. Clipping would hide a gradient that is not
    finite, so it is always checked then; without clipping the next loss shows it.
    Chunk boundaries depend on timing, so they must not affect divergence checks.
    """
    clips = params.clip_norm is not None or params.clip_value is not None
    always = clips or params.on_nan == "skip" or params.precision == "float16"
    needed = always | ends_row | ~jnp.isfinite(loss)
    norm: jax.Array = jax.lax.cond(
        needed, optax.tree.norm, lambda _: jnp.float32(0), grads
    )
    return norm


def where_state(condition: jax.Array, one: nnx.State, other: nnx.State) -> nnx.State:
    """`one` where `condition` is true, else `other`."""
    chosen: nnx.State = jax.tree.map(partial(jnp.where, condition), one, other)
    return chosen


def chunk_result(train_state: TrainState, last: Carry) -> ChunkResult:
    """The numbers that Python needs after the last step of a chunk."""
    loss, accuracy = train_state.metrics.loss, train_state.metrics.accuracy
    scaler = train_state.loss_scaler
    return ChunkResult(
        sums=MetricSums(
            loss.total[...],
            loss.compensation[...],
            accuracy.total[...],
            loss.count[...],
        ),
        steps=last.step_in_epoch,
        lr=learning_rate(train_state.optimizer),
        loss=last.loss,
        grad_norm=last.grad_norm,
        diverged=last.diverged,
        skips=None
        if scaler is None
        else SkippedSteps(scaler.skipped[...], scaler.steps[...], scaler.scale[...]),
    )
