"""Gradients in microbatches, to save memory, and gradients and logits on all devices.

`microbatched` and `data_parallel` wrap a gradient function and keep its signature. Like
`nnx.value_and_grad`, all three update the model's state other than parameters, such as
the statistics of `nnx.BatchNorm`, in place.
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
from src.models.dropout import Dropout
from src.models.frozen import Frozen
from src.sharding import (
    BATCH_AXIS,
    BY_BATCH,
    REPLICATED,
    device_count,
    is_split,
    shard_batch,
    specs_of,
)

# ((mean loss, arrays with a row per example), gradients)
LossAndGrads = tuple[tuple[jax.Array, Any], nnx.State]
GradFn = Callable[[Model, Batch, jax.Array], LossAndGrads]


def microbatched(grad_fn: GradFn, count: int) -> GradFn:
    """`grad_fn` computed from `count` equal slices of the batch, one after another.

    The mean over slices equals the mean over the batch up to rounding. Each slice has
    its own dropout key, so dropout masks differ from those of the whole batch.
    `nnx.BatchNorm` normalizes each slice by that slice's statistics, and its running
    statistics are updated once per slice.

    Args:
        grad_fn: gives the mean loss, auxiliary arrays per example, and gradients.
        count: how many slices; must divide the batch size.
    """
    if count == 1:
        return grad_fn

    def run(model: Model, batch: Batch, key: jax.Array) -> LossAndGrads:
        graphdef, both = nnx.split(model)
        weights, state = nnx.split_state(both, nnx.Param, ...)

        def add_slice(carry: Any, numbered: Any) -> tuple[Any, Any]:  # noqa: ANN401
            (total, state), (index, microbatch) = carry, numbered
            slice_key = jax.random.fold_in(key, index)
            slice_model = nnx.merge(graphdef, weights, state, copy=True)
            (loss, per_example), grads = grad_fn(slice_model, microbatch, slice_key)
            total = jax.tree.map(jnp.add, total, (loss, grads))
            return (total, nnx.state(slice_model, nnx.Not(nnx.Param))), per_example

        def stack(array: jax.Array) -> jax.Array:
            return array.reshape(count, -1, *array.shape[1:])

        def unstack(array: jax.Array) -> jax.Array:
            return array.reshape(-1, *array.shape[2:])

        zeros = jnp.float32(0), jax.tree.map(jnp.zeros_like, weights)
        slices = jnp.arange(count), jax.tree.map(stack, batch)
        (sums, state), per_example = jax.lax.scan(add_slice, (zeros, state), slices)
        nnx.update(model, state)
        loss, grads = jax.tree.map(lambda total: total / count, sums)
        return (loss, jax.tree.map(unstack, per_example)), grads

    return run


def data_parallel(grad_fn: GradFn) -> GradFn:
    """`grad_fn` with each device computing its part of the batch.

    One all-reduce per step: loss, gradients, statistics and the arrays per example
    travel as one vector, in which each device has filled its own rows. `nnx.BatchNorm`
    adds one per layer, because it normalizes by the statistics of the whole batch. A
    split `Dense` adds four messages, and its gradients stay where its weights are; then
    their norm is a message too, in steps that need it.
    """
    if device_count() == 1:
        return grad_fn

    def run(model: Model, batch: Batch, key: jax.Array) -> LossAndGrads:
        graphdef, state = nnx.split(model)

        def on_device(
            state: nnx.State, images: jax.Array, labels: Batch, key: jax.Array
        ) -> tuple[LossAndGrads, nnx.State]:
            local = jax.tree.map(local_rows, labels)._replace(images=images)
            local_model = nnx.merge(graphdef, state)
            synchronize(local_model)
            (loss, per_example), grads = grad_fn(local_model, local, key)
            statistics, others = nnx.state(
                local_model, is_statistic, nnx.Not(nnx.Any(nnx.Param, is_statistic))
            )
            split, whole = nnx.split_state(grads, lambda _, each: is_split(each), ...)
            means = loss, whole, statistics
            rows = jax.tree.map(scatter_rows, per_example)
            flat, restore = ravel_pytree((means, rows))
            means, per_example = restore(lax.psum(flat, BATCH_AXIS))
            count = lax.axis_size(BATCH_AXIS)
            loss, whole, statistics, split = jax.tree.map(
                lambda sum: sum / count, (*means, split)
            )
            grads = nnx.merge_state(whole, split)
            state = nnx.merge_state(statistics, others)
            return ((loss, per_example), grads), state

        # Only the images are sharded: labels are small, and every device scores all.
        result: LossAndGrads
        result, state = jax.shard_map(
            on_device,
            in_specs=(specs_of(state), BY_BATCH, REPLICATED, REPLICATED),
            out_specs=((REPLICATED, specs_of(nnx.state(model, nnx.Param))), REPLICATED),
            check_vma=False,
        )(state, shard_batch(batch.images), batch._replace(images=None), key)
        nnx.update(model, state)
        return result

    return run


def is_statistic(_: object, variable: nnx.Variable[jax.Array]) -> bool:
    """Whether devices average a variable; a filter of NNX."""
    fixed = isinstance(variable, nnx.Param | nnx.RngState | Frozen)
    return not fixed and jnp.issubdtype(variable.dtype, jnp.floating)


def synchronize(model: Model) -> None:
    """Makes the layers of one device's part act on the whole batch, in place.

    `nnx.BatchNorm` takes its statistics over all devices, and dropout its own rows of
    the whole batch's mask.
    """
    model.set_attributes(nnx.BatchNorm, raise_if_not_found=False, axis_name=BATCH_AXIS)
    for _, module in nnx.iter_modules(model):
        if type(module) is nnx.Dropout:
            module.__class__ = Dropout


def data_parallel_forward(model: Model, images: jax.Array) -> jax.Array:
    """Logits of a batch, with each device computing its part."""
    if device_count() == 1:
        return model(images)
    graphdef, state = nnx.split(model)

    def on_device(state: nnx.State, images: jax.Array) -> jax.Array:
        logits = nnx.merge(graphdef, state)(images)
        return lax.psum(scatter_rows(logits), BATCH_AXIS)

    logits: jax.Array = jax.shard_map(
        on_device,
        in_specs=(specs_of(state), BY_BATCH),
        out_specs=REPLICATED,
        check_vma=False,
    )(state, shard_batch(images))
    return logits


def local_rows(array: jax.Array) -> jax.Array:
    """This device's rows of an array that every device holds for the whole batch."""
    count = len(array) // lax.axis_size(BATCH_AXIS)
    return lax.dynamic_slice_in_dim(array, lax.axis_index(BATCH_AXIS) * count, count)


def scatter_rows(local: jax.Array) -> jax.Array:
    """This device's rows at their place in the batch, zeros elsewhere."""
    rows = len(local) * lax.axis_size(BATCH_AXIS)
    zeros = jnp.zeros((rows, *local.shape[1:]), local.dtype)
    start = lax.axis_index(BATCH_AXIS) * len(local)
    return lax.dynamic_update_slice_in_dim(zeros, local, start, axis=0)
