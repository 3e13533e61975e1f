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

from src.augment import augment_images
from src.config import Params
from src.data.split import Examples
from src.losses import cross_entropy
from src.models import Model
from src.state import Graph, build_metrics

Carry = tuple[jax.Array, nnx.State, jax.Array, jax.Array]  # index, state, loss, norm

AUGMENT = 1 << 31  # far from the small numbers that nnx.Rngs folds into the same key
SCORE_BATCH = 256  # examples per forward pass when scoring: memory, not results


class Sums(NamedTuple):
    """What a MultiMetric has added up."""

    loss: jax.Array  # float32 (), nats
    correct: jax.Array  # float32 (), a whole number
    examples: jax.Array  # int32 (), how many


class Chunk(NamedTuple):
    """What is known when a chunk of steps ends."""

    sums: Sums  # since the epoch began
    steps: jax.Array  # int32 (), steps of this epoch taken
    loss: jax.Array  # float32 (), of the last step
    gradient_norm: jax.Array  # float32 (), of the last step


def train_step(
    model: Model,
    optimizer: nnx.Optimizer[Model],
    metrics: nnx.MultiMetric,
    batch: Examples,
    key: jax.Array,
    label_smoothing: float,
) -> tuple[jax.Array, nnx.State]:
    """Takes one optimizer step; scores the batch with the parameters before it.

    Args:
        model: changed in place, like the optimizer and the metrics.
        optimizer: of the model's parameters.
        metrics: gets the batch's losses and answers added.
        batch: `images` uint8 `[batch, height, width, channels]`, `labels` int32
            `[batch]`.
        key: this step's own, folded from the run's seed and the step count.
        label_smoothing: see `cross_entropy`.

    Returns:
        The batch's mean loss, and the gradient of it.
    """

    def loss_fn(model: Model) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        logits = model(batch.images, rngs=nnx.Rngs(dropout=key))  # forward
        losses = cross_entropy(logits, batch.labels, label_smoothing)  # loss
        return losses.mean(), (logits, losses)

    backward = nnx.value_and_grad(loss_fn, has_aux=True)
    (loss, (logits, losses)), gradient = backward(model)  # backward
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
    key: jax.Array,
    *,
    graph: Graph,
    params: Params,
) -> tuple[nnx.State, Chunk]:
    """Takes the steps `start` to `stop` of an epoch; compiles once for all of them.

    Ends early, after the step in which the loss was not finite.

    Args:
        state: consumed: its buffers become the result's.
        split: the training examples, on the device.
        rows: int32 `[steps, batch]`, the examples of each step of the epoch.
        start: the first step.
        stop: the step before which to end, above `start`.
        key: of all steps; each folds its number into it.
        graph: of `(model, optimizer, metrics)`.
        params: the run's.
    """

    def body(carry: Carry) -> Carry:
        index, state, _, _ = carry
        model, optimizer, metrics = nnx.merge(graph, state)
        step_key = jax.random.fold_in(key, optimizer.step[...])
        augment_key = jax.random.fold_in(step_key, AUGMENT)
        images = augment_images(split.images[rows[index]], params.augment, augment_key)
        batch = Examples(images, split.labels[rows[index]])
        loss, gradient = train_step(
            model, optimizer, metrics, batch, step_key, params.label_smoothing
        )
        # A pass over all gradients: only where somebody will look at it.
        seen = (index + 1 == stop) | ~jnp.isfinite(loss)
        norm = jax.lax.cond(seen, optax.tree.norm, lambda _: jnp.float32(0), gradient)
        return index + 1, nnx.state((model, optimizer, metrics)), loss, norm

    def unfinished(carry: Carry) -> jax.Array:
        index, _, loss, _ = carry
        return (index < stop) & jnp.isfinite(loss)

    first = (jnp.int32(start), state, jnp.float32(0), jnp.float32(0))
    index, state, loss, norm = jax.lax.while_loop(unfinished, body, first)
    _, _, metrics = nnx.merge(graph, state)
    return state, Chunk(sums_of(metrics), index, loss, norm)


@partial(jax.jit, static_argnames="graph")
def score(state: nnx.State, split: Examples, *, graph: Graph) -> Sums:
    """Adds up the losses and right answers of a whole split, each example once.

    The last batch is filled up with repetitions, which a mask keeps out of the sums.
    """
    model, _, _ = nnx.merge(graph, state)
    metrics_graph, empty = nnx.split(build_metrics())
    count = len(split.labels)

    def body(index: jax.Array, sums: nnx.State) -> nnx.State:
        metrics = nnx.merge(metrics_graph, sums)
        rows = index * SCORE_BATCH + jnp.arange(SCORE_BATCH)
        mask = rows < count
        rows = jnp.minimum(rows, count - 1)
        labels = split.labels[rows]
        logits = model(split.images[rows])
        losses = cross_entropy(logits, labels, smoothing=0.0)
        metrics.update(loss=losses, logits=logits, labels=labels, mask=mask)
        return nnx.state(metrics)

    batches = -(-count // SCORE_BATCH)
    sums = jax.lax.fori_loop(0, batches, body, empty)
    return sums_of(nnx.merge(metrics_graph, sums))


def sums_of(metrics: nnx.MultiMetric) -> Sums:
    """The numbers behind the metrics' means."""
    loss, accuracy = (getattr(metrics, name) for name in ("loss", "accuracy"))
    return Sums(loss.total[...], accuracy.total[...], loss.count[...])
