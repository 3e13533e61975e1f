"""A dense layer that devices share: each holds and computes some output units.

Devices that share a layer exchange its inputs and outputs instead of its gradients, and
each updates its own weights. Source: Krizhevsky 2014, arXiv:1404.5997, section 4.
"""

import jax
from flax import nnx
from jax import lax

from src.models.architecture import Model
from src.sharding import BATCH_AXIS, SPLIT_AXIS, device_count, within_device


class Dense(nnx.Linear):
    """`nnx.Linear` whose output units `split_dense` may split over the devices."""

    is_split = False

    def __call__(self, inputs: jax.Array) -> jax.Array:  # type: ignore[override]
        """`[batch, ..., out_features]` of `[batch, ..., in_features]`."""
        if not (self.is_split and within_device()):
            return super().__call__(inputs)
        whole_batch = lax.all_gather(inputs, BATCH_AXIS, tiled=True)
        own_units = super().__call__(whole_batch)
        last = own_units.ndim - 1
        return lax.all_to_all(own_units, BATCH_AXIS, 0, last, tiled=True)


def split_dense(model: Model, batch: int) -> None:
    """Splits each `Dense` whose inputs and outputs are fewer numbers than its weights.

    Only where the devices divide its output units evenly. Changes the model in place.

    Args:
        model: the network.
        batch: images of a step, of all devices.
    """
    devices = device_count()
    for _, layer in nnx.iter_modules(model):
        if not isinstance(layer, Dense) or devices == 1:
            continue
        inputs, outputs = layer.in_features, layer.out_features
        if outputs % devices == 0 and batch * (inputs + outputs) < inputs * outputs:
            layer.is_split = True
            layer.kernel.set_metadata(SPLIT_AXIS, 1)
            if layer.bias is not None:
                layer.bias.set_metadata(SPLIT_AXIS, 0)
