"""Dropout whose mask does not depend on the number of devices."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from src.sharding import BATCH_AXIS, within_device


class Dropout(nnx.Dropout):
    """`nnx.Dropout`; each device draws the mask of the whole batch and keeps its rows.

    So a batch gets the same mask on one device and on several.
    """

    def __call__(
        self,
        inputs: jax.Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> jax.Array:
        """`[batch, units]`: zero with probability `rate`, else scaled up."""
        if deterministic or not within_device():
            return super().__call__(inputs, deterministic=deterministic, rngs=rngs)
        local_batch = inputs.shape[0]
        global_shape = (local_batch * lax.axis_size(BATCH_AXIS), *inputs.shape[1:])
        ones = jnp.ones(global_shape, inputs.dtype)
        mask = super().__call__(ones, deterministic=deterministic, rngs=rngs)
        start = lax.axis_index(BATCH_AXIS) * local_batch
        mask = lax.dynamic_slice_in_dim(mask, start, local_batch)
        # `where`, not the product alone: a dropped infinity must become 0 too.
        return jnp.where(mask == 0, 0, inputs * mask)
