"""All devices that JAX sees, as one: a mesh whose only axis is the batch.

Images are divided along it, and everything else lies on every device. Where there is
one device there is no mesh, and nothing here changes anything.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
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

BATCH = "batch"
EVERYWHERE = PartitionSpec()
BY_BATCH = PartitionSpec(BATCH)
# Numbers of an optimizer's array from which on it is divided among the devices, as in
# ZeRO's first stage (Rajbhandari et al. 2020, arXiv:1910.02054): 64 MB of float32.
DIVIDED_FROM = 1 << 24


def on_all_devices(params: Params) -> AbstractContextManager[object]:
    """Inside, what is placed is placed on all devices of all processes.

    Raises:
        ParameterError: a batch cannot be divided among them, or `debug` is asked for.
    """
    devices = sorted(jax.devices(), key=lambda each: (each.process_index, each.id))
    if len(devices) == 1:
        return nullcontext()
    check_batch(params, len(devices))
    own = jax.local_device_count()
    if own * jax.process_count() != len(devices):
        raise ParameterError(
            f"expected as many devices in each process, found {own} of "
            f"{len(devices)} in this one of {jax.process_count()}. Start the processes "
            "so that each sees as many."
        )
    if params.debug:
        raise ParameterError(
            f"params.yaml: debug: expected one device for debug: true, found "
            f"{len(devices)}. Set debug: false, or show JAX one device."
        )
    return on_mesh(Mesh(np.array(devices), (BATCH,), axis_types=(AxisType.Auto,)))


def on_mesh(mesh: Mesh) -> AbstractContextManager[object]:
    """Inside, that mesh is the one: another thread has none of its own."""
    return nullcontext() if mesh.empty else jax.set_mesh(mesh)


def check_batch(params: Params, devices: int) -> None:
    """Raises ParameterError where a slice of a batch has no equal part for each."""
    unit, size = devices * params.accumulate, params.batch_size
    if size % unit == 0:
        return
    below = size // unit * unit
    nearest = below if below and size - below <= unit // 2 else below + unit
    slices = f" times accumulate ({params.accumulate})" if params.accumulate > 1 else ""
    raise ParameterError(
        f"params.yaml: batch_size: expected a multiple of the {devices} devices"
        f"{slices}, got {size}. The nearest: {nearest}."
    )


def device_count() -> int:
    """Among how many devices a batch is divided."""
    return get_abstract_mesh().size or 1


def within_device() -> bool:
    """Whether what is traced here is one device's part of `data_parallel`."""
    return BATCH in get_abstract_mesh().manual_axes


def device_put(array: Any, spec: PartitionSpec = EVERYWHERE) -> jax.Array:  # noqa: ANN401
    """An array of the host, the same in every process, on the devices."""
    mesh = get_mesh()
    if mesh.empty:
        return jnp.asarray(array)
    target = NamedSharding(mesh, spec)
    if isinstance(array, jax.Array) and array.sharding == target:
        return array
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, target, lambda index: host[index])


def place_batches(share: np.ndarray) -> jax.Array:
    """Batches on the devices: `[batches, batch, ...]`.

    Args:
        share: `[batches, own, ...]`, what `local_slice` says of each.
    """
    mesh = get_mesh()
    if mesh.empty:
        return jnp.asarray(share)
    target = NamedSharding(mesh, PartitionSpec(None, BATCH))
    return jax.make_array_from_process_local_data(target, share)


def local_slice(batch: int) -> slice:
    """Which examples of a batch this process's devices take."""
    if get_mesh().empty:
        return slice(0, batch)
    number, count = jax.process_index(), jax.process_count()
    return slice(number * batch // count, (number + 1) * batch // count)


def shard_batch(batch: jax.Array) -> jax.Array:
    """Says to the compiler that each device has a part of the batch."""
    return constrain(batch, BY_BATCH)


def replicate(array: jax.Array) -> jax.Array:
    """Says to the compiler that each device has the whole array."""
    return constrain(array, EVERYWHERE)


def shard_state(state: nnx.State) -> nnx.State:
    """The state on all devices: large arrays of the optimizer divided, others whole."""
    return state if get_mesh().empty else each_array(state, device_put)


def constrain_state(state: nnx.State) -> nnx.State:
    """Says to the compiler that the state lies as `shard_state` laid it."""
    return state if device_count() == 1 else each_array(state, constrain)


def each_array(
    state: nnx.State, put: Callable[[jax.Array, PartitionSpec], jax.Array]
) -> nnx.State:
    """The state with each array put as its place in the state says."""
    return nnx.from_flat_state(
        (path, leaf.replace(put(leaf[...], spec_of(path, leaf[...]))))
        for path, leaf in nnx.to_flat_state(state)
    )


def gather(state: nnx.State) -> nnx.State:
    """The state with every array on every device: what can be read in any process."""
    mesh = get_mesh()
    if mesh.empty:
        return state
    everywhere = NamedSharding(mesh, EVERYWHERE)
    gathered: nnx.State = jax.jit(unchanged, out_shardings=everywhere)(state)
    return gathered


def unchanged(state: nnx.State) -> nnx.State:
    """The state; one function, so that it is compiled once."""
    return state


def constrain(array: jax.Array, spec: PartitionSpec) -> jax.Array:
    """Says to the compiler how an array is divided, where there are several devices."""
    if device_count() == 1:
        return array
    constrained: jax.Array = jax.lax.with_sharding_constraint(array, spec)
    return constrained


def spec_of(path: tuple[Any, ...], array: jax.Array) -> PartitionSpec:
    """How an array of the state is divided."""
    if path[0] != "optimizer" or array.size < DIVIDED_FROM:
        return EVERYWHERE
    devices = get_abstract_mesh().size
    for axis, length in enumerate(array.shape):
        if length % devices == 0:
            return PartitionSpec(*[None] * axis, BATCH)
    return EVERYWHERE
