"""Validation: every example of a split is scored exactly once, on the device."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.evaluation.accumulators import ValidationAccumulators
from src.evaluation.metrics import balanced_accuracy, macro_averages
from src.evaluation.predict import FORWARD_BATCH
from src.models.build import Model
from src.sharding import device_count, zeros_like
from src.training.batches import BatchBlock, BatchSource
from src.training.data import TrainData
from src.training.gradients import data_parallel_forward
from src.training.losses import cross_entropy
from src.training.state import TrainGraph, eval_model


@dataclass(frozen=True)
class ValidationMetrics:
    """Scores of a split; precision, recall and F1 are macro averages over classes."""

    loss: float  # mean, nats
    accuracy: float
    balanced_accuracy: float  # mean recall of the classes that have examples
    precision: float
    recall: float
    f1: float
    top_k: float


class ValidationResult(NamedTuple):
    """The scores of a split, and what was predicted."""

    metrics: ValidationMetrics
    predicted: tuple[int, ...]  # examples predicted as each class


def validate(
    state: nnx.State, graphdef: TrainGraph, data: TrainData, top_k: int
) -> ValidationResult:
    """Scores the validation split: sums on the device, divided once."""
    sums = score(state, graphdef, data.validation, data.classes, top_k)
    predicted = np.asarray(sums.confusion.counts[...]).sum(0)
    return ValidationResult(divide(sums), tuple(predicted.tolist()))


def score(
    state: nnx.State,
    graphdef: TrainGraph,
    split: BatchSource,
    classes: int,
    top_k: int,
) -> ValidationAccumulators:
    """The sums over a whole split, each example once.

    The last batch is padded with repetitions; a mask keeps them out of the sums.
    """
    count, order = len(split), padded_batches(len(split))
    empty = nnx.eval_shape(lambda: ValidationAccumulators(classes, top_k))
    metrics_graphdef, shapes = nnx.split(empty)
    sums = zeros_like(shapes)
    # Without the optimizer: runs that differ only in its settings share a compilation.
    model_graphdef, weights = nnx.split(eval_model(graphdef, state))
    for block in split.blocks(order):
        sums = add_block(
            sums,
            weights,
            block,
            count,
            size=order.shape[1],
            graphdef=model_graphdef,
            metrics_graphdef=metrics_graphdef,
        )
    merged: ValidationAccumulators = nnx.merge(metrics_graphdef, sums)
    return merged


def padded_batches(count: int) -> np.ndarray:
    """All examples in their order, the last one repeated: int32 `[batches, batch]`."""
    devices = device_count()
    size = -(-FORWARD_BATCH // devices) * devices
    batches = -(-count // size)
    order = np.minimum(np.arange(batches * size, dtype=np.int32), count - 1)
    return order.reshape(batches, size)


@partial(jax.jit, static_argnames=("size", "graphdef", "metrics_graphdef"))
def add_block(
    sums: nnx.State,
    weights: nnx.State,
    block: BatchBlock,
    count: int,
    *,
    size: int,
    graphdef: nnx.GraphDef[Model],
    metrics_graphdef: nnx.GraphDef[Any],
) -> nnx.State:
    """Adds the scores of the batches of a block.

    Args:
        sums: of the `ValidationAccumulators` so far.
        weights: the state of the model.
        block: the batches.
        count: examples of the split; positions from `count` on are padding.
        size: examples per batch.
        graphdef: of the model, in eval mode.
        metrics_graphdef: of the `ValidationAccumulators`.
    """
    model = nnx.merge(graphdef, weights)

    def body(index: jax.Array, sums: nnx.State) -> nnx.State:
        accumulators = nnx.merge(metrics_graphdef, sums)
        indices = block.batch_indices[index]
        images, labels = block.examples.images[indices], block.examples.labels[indices]
        logits = data_parallel_forward(model, images)
        losses = cross_entropy(logits, labels, smoothing=0.0)
        mask = index * size + jnp.arange(size) < count
        accumulators.update(loss=losses, logits=logits, labels=labels, mask=mask)
        return nnx.state(accumulators)

    added: nnx.State = jax.lax.fori_loop(block.start, block.stop, body, sums)
    return added


def divide(accumulators: ValidationAccumulators) -> ValidationMetrics:
    """The means, in double precision; waits for the device."""
    confusion = np.asarray(accumulators.confusion.counts[...])
    examples = int(confusion.sum())
    return ValidationMetrics(
        loss=float(accumulators.loss.total[...]) / examples,
        accuracy=int(np.trace(confusion)) / examples,
        balanced_accuracy=balanced_accuracy(confusion),
        **macro_averages(confusion),
        top_k=int(accumulators.top_k.total[...]) / examples,
    )
