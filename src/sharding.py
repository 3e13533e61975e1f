"""Data parallelism over all devices: a mesh whose only axis is the batch.

Images are sharded along it, and so are variables that say so, see `spec_of`; everything
else is replicated. With one device there is no mesh, and every function here is the
identity.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx
from jax.sharding import (
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
    get_abstract_mesh,
    get_mesh,
)

from src.config.params import Params
from src.errors import ParameterError

Tree = TypeVar("Tree")  # of arrays

BATCH_AXIS = "batch"
REPLICATED = PartitionSpec()
BY_BATCH = PartitionSpec(BATCH_AXIS)
SPLIT_AXIS = "split_axis"  # of a variable's metadata: the axis that devices share


def on_all_devices(params: Params) -> AbstractContextManager[object]:
    """A context in which arrays are placed on all devices of all processes.

    Raises:
        ParameterError: the batch size is no multiple of the devices, the processes have
            different numbers of devices, or `debug` is set.
    """
    devices = sorted(jax.devices(), key=lambda each: (each.process_index, each.id))
    if len(devices) == 1:
        return nullcontext()
    check_batch(params, len(devices))
    own = jax.local_device_count()
    if own * jax.process_count() != len(devices):
        raise ParameterError(
            f"devices: expected the same number in each of {jax.process_count()} "
            f"processes, found {own} of {len(devices)} in this one. Give every "
            "process the same number of devices."
        )
    if params.debug:
        raise ParameterError(
            f"params.yaml: debug: expected one device for debug: true, found "
            f"{len(devices)}. Set debug: false, or give JAX one device."
        )
    return on_mesh(Mesh(np.array(devices), (BATCH_AXIS,), axis_types=(AxisType.Auto,)))


def on_mesh(mesh: Mesh) -> AbstractContextManager[object]:
    """A context with this mesh; every thread needs its own."""
    return nullcontext() if mesh.empty else jax.set_mesh(mesh)


def check_batch(params: Params, devices: int) -> None:
    """Raises ParameterError where a microbatch does not divide among the devices."""
    unit, size = devices * params.accumulate, params.batch_size
    if size % unit == 0:
        return
    below = size // unit * unit
    nearest = below if below and size - below <= unit // 2 else below + unit
    slices = f" times accumulate ({params.accumulate})" if params.accumulate > 1 else ""
    raise ParameterError(
        f"params.yaml: batch_size: expected a multiple of the {devices} devices"
        f"{slices}, found {size}. Use {nearest}, or on a CPU other cpu_devices."
    )


def device_count() -> int:
    """The number of devices that share a batch."""
    return get_abstract_mesh().size or 1


def within_device() -> bool:
    """Whether the code being traced is one device's part of `data_parallel`."""
    return BATCH_AXIS in get_abstract_mesh().manual_axes


def device_put(array: Any, spec: PartitionSpec = REPLICATED) -> jax.Array:  # noqa: ANN401
    """Puts a host array, the same in every process, on the devices."""
    mesh = get_mesh()
    if mesh.empty:
        return jax.device_put(array)
    target = NamedSharding(mesh, spec)
    if isinstance(array, jax.Array) and array.sharding == target:
        return array
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, target, lambda index: host[index])


def put_batches(own: np.ndarray) -> jax.Array:
    """Puts batches on the devices: `[batches, batch, ...]`.

    Args:
        own: `[batches, own rows, ...]`, the rows of `local_slice` of each batch.
    """
    mesh = get_mesh()
    if mesh.empty:
        return jax.device_put(own)
    target = NamedSharding(mesh, PartitionSpec(None, BATCH_AXIS))
    return jax.make_array_from_process_local_data(target, own)


def local_slice(batch: int) -> slice:
    """The rows of a batch that belong to this process."""
    if get_mesh().empty:
        return slice(0, batch)
    number, count = jax.process_index(), jax.process_count()
    return slice(number * batch // count, (number + 1) * batch // count)


def shard_batch(batch: jax.Array) -> jax.Array:
    """Constrains a batch to be sharded over the devices."""
    return constrain(batch, BY_BATCH)


def replicate(array: jax.Array) -> jax.Array:
    """Constrains an array to be replicated on every device."""
    return constrain(array, REPLICATED)


def shard_state(state: nnx.State) -> nnx.State:
    """Puts the state on all devices, each variable with the sharding of `spec_of`."""
    return state if get_mesh().empty else each_array(state, device_put)


def zeros_like(sums: Tree) -> Tree:
    """Zeros of the shapes and dtypes of `sums`, on all devices."""

    def zeros(array: Any) -> jax.Array:  # noqa: ANN401 - an array or its ShapeDtype
        return device_put(np.zeros(array.shape, array.dtype))

    empty: Tree = jax.tree.map(zeros, sums)
    return empty


def constrain_state(state: nnx.State) -> nnx.State:
    """Constrains the state to the layout of `shard_state`."""
    return state if device_count() == 1 else each_array(state, constrain)


def specs_of(state: nnx.State) -> nnx.State:
    """The sharding of each array of the state."""
    return each_array(state, lambda _, spec: spec)


def each_array(
    state: nnx.State, put: Callable[[jax.Array, PartitionSpec], Any]
) -> nnx.State:
    """Applies `put` to each array with its sharding."""
    return nnx.from_flat_state(
        (path, leaf.replace(put(leaf[...], spec_of(leaf))))
        if jax.tree.leaves(leaf)
        else (path, leaf)  # `optax.MaskedNode`, which is no array
        for path, leaf in nnx.to_flat_state(state)
    )


def constrain(array: jax.Array, spec: PartitionSpec) -> jax.Array:
    """Constrains the sharding of an array, where there are several devices."""
    if device_count() == 1:
        return array
    constrained: jax.Array = jax.lax.with_sharding_constraint(array, spec)
    return constrained


def spec_of(variable: nnx.Variable[jax.Array]) -> PartitionSpec:
    """The sharding of a variable: along the axis that its metadata names, if any.

    An optimizer's moments have the metadata of their weights.
    """
    axis = variable.get_metadata().get(SPLIT_AXIS)
    return REPLICATED if axis is None else PartitionSpec(*[None] * axis, BATCH_AXIS)


def is_split(variable: nnx.Variable[jax.Array]) -> bool:
    """Whether each device has a part of a variable."""
    return spec_of(variable) != REPLICATED
