"""A dense layer that devices share: each holds and computes some output units.

Devices that share a layer exchange its inputs and outputs instead of its gradients, and
each updates its own weights. Source: Krizhevsky 2014, arXiv:1404.5997, section 4.
"""

import jax
from flax import nnx
from jax import lax

from src.models.architecture import Model
from src.sharding import (
    BATCH_AXIS,
    SPLIT_AXIS,
    device_count,
    is_split,
    within_device,
)


class Dense(nnx.Linear):
    """`nnx.Linear` whose output units `split_dense` may split over the devices.

    Only `__call__` may read its weights: a device may hold a part of them.
    """

    def __call__(self, inputs: jax.Array) -> jax.Array:  # type: ignore[override]
        """`[batch, out_features]` of `[batch, in_features]`."""
        if not (is_split(self.kernel) and within_device()):
            return super().__call__(inputs)
        whole_batch = lax.all_gather(inputs, BATCH_AXIS, tiled=True)
        own_units = super().__call__(whole_batch)
        return lax.all_to_all(own_units, BATCH_AXIS, 0, 1, tiled=True)


def split_dense(model: Model, batch: int) -> None:
    """Splits each `Dense` whose inputs and outputs are fewer numbers than its weights.

    Only where the devices of this process divide its output units evenly: between
    processes, messages take too long. Never a frozen layer, which has no gradients.
    Changes the model in place.

    Args:
        model: the network.
        batch: images in a gradient: of a batch, or of one slice of `accumulate`.
    """
    devices = device_count()
    if devices == 1 or jax.process_count() > 1:
        return
    for _, layer in nnx.iter_modules(model):
        if not isinstance(layer, Dense):
            continue
        axes = {1: layer.kernel} | ({} if layer.bias is None else {0: layer.bias})
        inputs, outputs = layer.in_features, layer.out_features
        trained = all(isinstance(each, nnx.Param) for each in axes.values())
        cheaper = batch * (inputs + outputs) < inputs * outputs
        if trained and cheaper and outputs % devices == 0:
            for axis, variable in axes.items():
                variable.set_metadata(SPLIT_AXIS, axis)
