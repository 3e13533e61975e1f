"""The gradient of a large batch from small slices of it, for memory's sake."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from src.data.split import Batch
from src.models import Model

Found = tuple[tuple[jax.Array, Any], nnx.State]  # ((loss, per example), gradient)
Backward = Callable[[Model, Batch, jax.Array], Found]


def in_slices_of_batch(
    backward: Backward, model: Model, batch: Batch, key: jax.Array, count: int
) -> Found:
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
