"""The four beats, and the compiled chunk that plays them.

Calling a compiled step from Python costs a millisecond a time, more than a step of a
small network. So the data lies on the device, and a compiled loop takes many steps; in
between, Python logs, judges and stops.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from src.config.params import Params
from src.data.examples import Examples
from src.evaluation.accumulators import TrainingMetrics
from src.sharding import constrain_state
from src.training.ema import update_ema
from src.training.optimizer import learning_rate
from src.training.state import Graph, TrainState
from src.training.step import step_batch, train_step


class MetricSums(NamedTuple):
    """What the training metrics have added up."""

    loss: jax.Array  # float32 (), nats
    rest: jax.Array  # float32 (), what rounding added to `loss`: to be taken off it
    correct: jax.Array  # float32 (), a whole number
    examples: jax.Array  # int32 (), how many


class SkippedSteps(NamedTuple):
    """What a guard remembers."""

    total: jax.Array  # int32 (), skipped steps since training began
    steps: jax.Array  # int32 [64], the latest of them, in a circle
    scale: jax.Array  # float32 (), of the loss


class ChunkResult(NamedTuple):
    """What is known when a chunk of steps ends."""

    sums: MetricSums  # since the epoch began
    steps: jax.Array  # int32 (), steps of this epoch taken
    lr: jax.Array  # float32 (), of the last step
    loss: jax.Array  # float32 (), of the last step
    gradient_norm: jax.Array  # float32 (), before clipping; 0 within a row of steps.csv
    lost: jax.Array  # bool (), whether to go on is hopeless
    skips: SkippedSteps | None  # where a guard was asked for


class Carry(NamedTuple):
    """What goes from step to step of a chunk."""

    position: jax.Array  # of the next step in the epoch
    state: nnx.State
    loss: jax.Array
    norm: jax.Array
    lost: jax.Array


@partial(jax.jit, static_argnames=("graph", "params"), donate_argnames="state")
def run_chunk(
    state: nnx.State,
    split: Examples,
    rows: jax.Array,
    start: int,
    stop: int,
    done: int,
    key: jax.Array,
    *,
    graph: Graph,
    params: Params,
) -> tuple[nnx.State, ChunkResult]:
    """Takes the steps `start` to `stop` of an epoch; compiles once for all of them.

    Ends early, after a step whose loss was not finite or that was one too many of such.

    Args:
        state: consumed: its buffers become the result's.
        split: the training examples, on the device.
        rows: int32 `[steps, ...]`, where in `split` each step of the epoch finds its
            batch: see `BatchBlock`.
        start: the first step.
        stop: the step before which to end, above `start`.
        done: steps of the epochs before.
        key: of all steps; each folds its number into it.
        graph: of the `TrainState`.
        params: the run's.
    """
    # Clipping would hide a gradient that is not finite; else the next loss shows it.
    clips = params.clip_norm is not None or params.clip_value is not None
    watched = clips or params.on_nan == "skip" or params.precision == "float16"

    def body(carry: Carry) -> Carry:
        # Copied: the parts change in place, and a guard may want the old ones back.
        parts = nnx.merge(graph, carry.state, copy=True)
        number = done + carry.position  # steps before this one
        step_key = jax.random.fold_in(key, number)
        batch = step_batch(split, rows[carry.position], step_key, params)
        loss, gradient = train_step(parts, batch, step_key, params)
        if parts.average is not None:
            update_ema(parts.average, parts.model, params.ema_decay, number + 1)
        # A pass over all gradients: only where a row of steps.csv ends. Not at `stop`:
        # where a chunk ends must not decide whether a run goes on.
        after = carry.position + 1
        row_ends = (after % params.log_every == 0) | (after == len(rows))
        last = number + 1 == (params.max_steps or 0)
        seen = watched | row_ends | last | ~jnp.isfinite(loss)
        norm = jax.lax.cond(seen, optax.tree.norm, lambda _: jnp.float32(0), gradient)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        lost = ~finite
        if parts.guard is not None:
            kept = where_state(finite, nnx.state(parts), carry.state)
            parts = nnx.merge(graph, kept)
            parts.guard.note(finite, number + 1)
            lost = parts.guard.lost
        return Carry(after, constrain_state(nnx.state(parts)), loss, norm, lost)

    def unfinished(carry: Carry) -> jax.Array:
        return (carry.position < stop) & ~carry.lost

    zero = jnp.float32(0)
    first = Carry(jnp.int32(start), state, zero, zero, jnp.bool(False))
    last = jax.lax.while_loop(unfinished, body, first)
    parts = nnx.merge(graph, last.state)
    return last.state, ChunkResult(
        sums=sums_of(parts.metrics),
        steps=last.position,
        lr=learning_rate(parts.optimizer)[...],
        loss=last.loss,
        gradient_norm=last.norm,
        lost=last.lost,
        skips=skips_of(parts),
    )


def where_state(first: jax.Array, one: nnx.State, other: nnx.State) -> nnx.State:
    """`one` where `first` is true, else `other`."""
    chosen: nnx.State = jax.tree.map(partial(jnp.where, first), one, other)
    return chosen


def sums_of(metrics: TrainingMetrics) -> MetricSums:
    """The numbers behind the metrics' means."""
    loss, accuracy = metrics.loss, metrics.accuracy
    total, rest = loss.total[...], loss.rest[...]
    return MetricSums(total, rest, accuracy.total[...], loss.count[...])


def skips_of(parts: TrainState) -> SkippedSteps | None:
    """What the guard remembers, if there is one."""
    if parts.guard is None:
        return None
    guard = parts.guard
    return SkippedSteps(guard.skipped[...], guard.steps[...], guard.scale[...])
