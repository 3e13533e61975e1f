"""Dropout that drops the same units however many devices share a batch."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from src.sharding import BATCH_AXIS, within_device


class Dropout(nnx.Dropout):
    """`nnx.Dropout`; a device draws for the whole batch and keeps its own rows."""

    def __call__(
        self,
        inputs: jax.Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> jax.Array:
        """`[batch, units]` with the share `rate` of them 0, and the others larger."""
        if deterministic or not within_device():
            return super().__call__(inputs, deterministic=deterministic, rngs=rngs)
        own = inputs.shape[0]
        ones = jnp.ones(
            (own * lax.axis_size(BATCH_AXIS), *inputs.shape[1:]), inputs.dtype
        )
        factors = super().__call__(ones, deterministic=deterministic, rngs=rngs)
        start = lax.axis_index(BATCH_AXIS) * own
        factors = lax.dynamic_slice_in_dim(factors, start, own)
        # Not the product alone: an infinity that is dropped becomes 0 too.
        return jnp.where(factors == 0, 0, inputs * factors)
