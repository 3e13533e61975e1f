"""The gradient of a batch from its parts: slices, for memory's sake, or devices'.

Each of the two takes what computes the gradient of a batch and gives the same again.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.flatten_util import ravel_pytree

from src.data.examples import Batch
from src.models.build import Model
from src.sharding import BATCH, BY_BATCH, EVERYWHERE, device_count, shard_batch

LossAndGrads = tuple[
    tuple[jax.Array, Any], nnx.State
]  # ((loss, per example), gradient)
GradFn = Callable[[Model, Batch, jax.Array], LossAndGrads]


def microbatched(
    backward: GradFn, model: Model, batch: Batch, key: jax.Array, count: int
) -> LossAndGrads:
    """`backward` of the whole batch, computed from `count` equal slices of it.

    The mean of the slices' means is the batch's mean, up to rounding. Each slice draws
    its dropout from its own key, so with dropout other units are dropped than in one
    piece.

    Args:
        backward: gives the mean loss, an array per example for each of other results,
            and the gradient.
        model: the network.
        batch: its size a multiple of `count`.
        key: for what `backward` draws.
        count: how many slices.
    """
    if count == 1:
        return backward(model, batch, key)
    graph, state = nnx.split(model)

    def add(total: Any, numbered: Any) -> tuple[Any, Any]:  # noqa: ANN401 - lax.scan's
        index, part = numbered
        slice_key = jax.random.fold_in(key, index)
        (loss, others), gradient = backward(
            nnx.merge(graph, state, copy=True), part, slice_key
        )
        return jax.tree.map(jnp.add, total, (loss, gradient)), others

    def stack(array: jax.Array) -> jax.Array:
        return array.reshape(count, -1, *array.shape[1:])

    nothing = jnp.float32(0), jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param))
    parts = jnp.arange(count), jax.tree.map(stack, batch)
    sums, others = jax.lax.scan(add, nothing, parts)
    loss, gradient = jax.tree.map(lambda total: total / count, sums)
    whole = jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), others)
    return (loss, whole), gradient


def data_parallel(backward: GradFn) -> GradFn:
    """`backward` of a whole batch, each device computing its part of it.

    One message a step: the gradients, the losses and what there is per example go as
    one array, in which each device has filled its own places.

    Args:
        backward: as in `microbatched`; among several devices it sees a part.
    """
    if device_count() == 1:
        return backward

    def run(model: Model, batch: Batch, key: jax.Array) -> LossAndGrads:
        graph, state = nnx.split(model)

        def part(
            state: nnx.State, images: jax.Array, others: Batch, key: jax.Array
        ) -> LossAndGrads:
            own = jax.tree.map(local_rows, others)._replace(images=images)
            (loss, scores), gradient = backward(nnx.merge(graph, state), own, key)
            sums = loss, gradient, jax.tree.map(scatter_rows, scores)
            flat, restore = ravel_pytree(sums)
            loss, gradient, scores = restore(lax.psum(flat, BATCH))
            count = lax.axis_size(BATCH)
            loss, gradient = jax.tree.map(lambda sum: sum / count, (loss, gradient))
            return (loss, scores), gradient

        found: LossAndGrads = jax.shard_map(
            part,
            in_specs=(EVERYWHERE, BY_BATCH, EVERYWHERE, EVERYWHERE),
            out_specs=EVERYWHERE,
            check_vma=False,
        )(state, shard_batch(batch.images), batch._replace(images=None), key)
        return found

    return run


def local_rows(array: jax.Array) -> jax.Array:
    """This device's part of what lies on every device for a whole batch."""
    count = len(array) // lax.axis_size(BATCH)
    return lax.dynamic_slice_in_dim(array, lax.axis_index(BATCH) * count, count)


def scatter_rows(part: jax.Array) -> jax.Array:
    """This device's rows at their place in the batch, among zeros."""
    rows = len(part) * lax.axis_size(BATCH)
    empty = jnp.zeros((rows, *part.shape[1:]), part.dtype)
    start = lax.axis_index(BATCH) * len(part)
    return lax.dynamic_update_slice_in_dim(empty, part, start, axis=0)


def forward_on_every_device(model: Model, images: jax.Array) -> jax.Array:
    """Logits of a batch, of which each device computes its part."""
    if device_count() == 1:
        return model(images)
    graph, state = nnx.split(model)

    def part(state: nnx.State, images: jax.Array) -> jax.Array:
        return lax.psum(scatter_rows(nnx.merge(graph, state)(images)), BATCH)

    logits: jax.Array = jax.shard_map(
        part, in_specs=(EVERYWHERE, BY_BATCH), out_specs=EVERYWHERE, check_vma=False
    )(state, shard_batch(images))
    return logits
