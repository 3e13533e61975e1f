"""What validation says of a network: every example counted once, on the device."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.data.examples import Examples
from src.evaluation.accumulators import ValidationMetrics
from src.sharding import device_count, shard_state
from src.training.batches import BatchSource
from src.training.gradients import forward_on_every_device
from src.training.losses import cross_entropy
from src.training.state import Graph

BATCH = 256  # examples per forward pass: memory, not results


class ValidationSums(NamedTuple):
    """What is added up of a whole split."""

    loss: jax.Array  # float32 (), nats
    confusion: jax.Array  # int32 [classes, classes], actual by predicted
    top_k: jax.Array  # float32 (), a whole number: labels among the k most likely


def score(
    state: nnx.State, split: BatchSource, classes: int, *, graph: Graph, top_k: int
) -> ValidationSums:
    """Scores a whole split, each example once.

    The last batch is filled up with repetitions, which a mask keeps out of the sums.
    """
    count, devices = len(split), device_count()
    size = -(-BATCH // devices) * devices
    batches = -(-count // size)
    order = np.minimum(np.arange(batches * size, dtype=np.int32), count - 1)
    metrics_graph, sums = nnx.split(ValidationMetrics(classes, top_k))
    sums = shard_state(sums)
    for block in split.blocks(order.reshape(batches, size)):
        sums = add_scores(
            *(sums, state, block.examples, block.rows, block.start, block.stop, count),
            size=size,
            graph=graph,
            metrics_graph=metrics_graph,
        )
    metrics = nnx.merge(metrics_graph, sums)
    return ValidationSums(
        metrics.loss.total[...],
        metrics.confusion.counts[...],
        metrics.top_k.total[...],
    )


@partial(jax.jit, static_argnames=("size", "graph", "metrics_graph"))
def add_scores(
    sums: nnx.State,
    state: nnx.State,
    split: Examples,
    rows: jax.Array,
    start: int,
    stop: int,
    count: int,
    *,
    size: int,
    graph: Graph,
    metrics_graph: nnx.GraphDef[Any],
) -> nnx.State:
    """Adds the scores of batches `start` to `stop`.

    Args:
        sums: of the metrics so far.
        state: with the network.
        split: the examples, see `BatchBlock`.
        rows: see there.
        start: the first batch.
        stop: the batch before which to end.
        count: how many examples the split has; what comes after them is filling.
        size: of a batch.
        graph: of the `TrainState`.
        metrics_graph: of the `ValidationMetrics`.
    """
    model = nnx.merge(graph, state).best

    def body(index: jax.Array, sums: nnx.State) -> nnx.State:
        metrics = nnx.merge(metrics_graph, sums)
        labels = split.labels[rows[index]]
        logits = forward_on_every_device(model, split.images[rows[index]])
        losses = cross_entropy(logits, labels, smoothing=0.0)
        mask = index * size + jnp.arange(size) < count
        metrics.update(loss=losses, logits=logits, labels=labels, mask=mask)
        return nnx.state(metrics)

    summed: nnx.State = jax.lax.fori_loop(start, stop, body, sums)
    return summed
