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

from src.accumulate import in_slices_of_batch, on_every_device
from src.augment import augment
from src.average import follow
from src.config import Params
from src.counts import TrainingMetrics
from src.data.split import Batch, Examples
from src.devices import divided, keep_layout, on_all
from src.losses import batch_losses
from src.models import Model
from src.optim import learning_rate
from src.state import Graph, Parts

AUGMENT = 1 << 31  # far from the small numbers that nnx.Rngs folds into the same key


class Sums(NamedTuple):
    """What the training metrics have added up."""

    loss: jax.Array  # float32 (), nats
    rest: jax.Array  # float32 (), what rounding added to `loss`: to be taken off it
    correct: jax.Array  # float32 (), a whole number
    examples: jax.Array  # int32 (), how many


class Skips(NamedTuple):
    """What a guard remembers."""

    total: jax.Array  # int32 (), skipped steps since training began
    steps: jax.Array  # int32 [64], the latest of them, in a circle
    scale: jax.Array  # float32 (), of the loss


class Chunk(NamedTuple):
    """What is known when a chunk of steps ends."""

    sums: Sums  # since the epoch began
    steps: jax.Array  # int32 (), steps of this epoch taken
    lr: jax.Array  # float32 (), of the last step
    loss: jax.Array  # float32 (), of the last step
    gradient_norm: jax.Array  # float32 (), before clipping; 0 within a row of steps.csv
    lost: jax.Array  # bool (), whether to go on is hopeless
    skips: Skips | None  # where a guard was asked for


class Carry(NamedTuple):
    """What goes from step to step of a chunk."""

    position: jax.Array  # of the next step in the epoch
    state: nnx.State
    loss: jax.Array
    norm: jax.Array
    lost: jax.Array


def train_step(
    parts: Parts, batch: Batch, key: jax.Array, params: Params
) -> tuple[jax.Array, nnx.State]:
    """Takes one optimizer step; scores the batch with the parameters before it.

    Args:
        parts: model, optimizer and metrics are changed in place.
        batch: `images` uint8 `[batch, height, width, channels]`, `labels` int32
            `[batch]`.
        key: this step's own, folded from the run's seed and the step count.
        params: the run's.

    Returns:
        The batch's mean loss, and the gradient of it.
    """
    model, optimizer, metrics, _, guard = parts
    scale = 1.0 if guard is None else guard.scale[...]

    def loss_fn(
        model: Model, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        logits = model(batch.images, rngs=nnx.Rngs(dropout=key))  # forward
        losses = batch_losses(logits, batch, params.label_smoothing)  # loss
        return losses.mean() * scale, (logits, losses)

    backward = nnx.value_and_grad(loss_fn, has_aux=True)
    (loss, (logits, losses)), gradient = in_slices_of_batch(  # backward
        on_every_device(backward), model, batch, key, params.accumulate
    )
    loss, gradient = jax.tree.map(lambda value: value / scale, (loss, gradient))
    optimizer.update(model, gradient)  # update
    metrics.update(loss=losses, logits=logits, labels=batch.labels)
    return loss, gradient


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
) -> tuple[nnx.State, Chunk]:
    """Takes the steps `start` to `stop` of an epoch; compiles once for all of them.

    Ends early, after a step whose loss was not finite or that was one too many of such.

    Args:
        state: consumed: its buffers become the result's.
        split: the training examples, on the device.
        rows: int32 `[steps, ...]`, where in `split` each step of the epoch finds its
            batch: see `Block`.
        start: the first step.
        stop: the step before which to end, above `start`.
        done: steps of the epochs before.
        key: of all steps; each folds its number into it.
        graph: of the `Parts`.
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
            follow(parts.average, parts.model, params.ema_decay, number + 1)
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
            kept = either(finite, nnx.state(parts), carry.state)
            parts = nnx.merge(graph, kept)
            parts.guard.note(finite, number + 1)
            lost = parts.guard.lost
        return Carry(after, keep_layout(nnx.state(parts)), loss, norm, lost)

    def unfinished(carry: Carry) -> jax.Array:
        return (carry.position < stop) & ~carry.lost

    zero = jnp.float32(0)
    first = Carry(jnp.int32(start), state, zero, zero, jnp.bool(False))
    last = jax.lax.while_loop(unfinished, body, first)
    parts = nnx.merge(graph, last.state)
    return last.state, Chunk(
        sums=sums_of(parts.metrics),
        steps=last.position,
        lr=learning_rate(parts.optimizer)[...],
        loss=last.loss,
        gradient_norm=last.norm,
        lost=last.lost,
        skips=skips_of(parts),
    )


def step_batch(
    split: Examples, rows: jax.Array, key: jax.Array, params: Params
) -> Batch:
    """What one step learns from: the examples at `rows`, changed at random.

    Args:
        split: the training examples.
        rows: int32 `[batch]`; or int32 (), where they are a batch already.
        key: of the step.
        params: the run's.
    """
    rows = on_all(rows)  # else each device looks up its labels and asks for the others'
    examples = Examples(divided(split.images[rows]), split.labels[rows])
    return augment(examples, jax.random.fold_in(key, AUGMENT), params)


def either(first: jax.Array, one: nnx.State, other: nnx.State) -> nnx.State:
    """`one` where `first` is true, else `other`."""
    chosen: nnx.State = jax.tree.map(partial(jnp.where, first), one, other)
    return chosen


def sums_of(metrics: TrainingMetrics) -> Sums:
    """The numbers behind the metrics' means."""
    loss, accuracy = metrics.loss, metrics.accuracy
    total, rest = loss.total[...], loss.rest[...]
    return Sums(total, rest, accuracy.total[...], loss.count[...])


def skips_of(parts: Parts) -> Skips | None:
    """What the guard remembers, if there is one."""
    if parts.guard is None:
        return None
    guard = parts.guard
    return Skips(guard.skipped[...], guard.steps[...], guard.scale[...])
