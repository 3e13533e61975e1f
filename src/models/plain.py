"""A network with XLA's own operations in place of those that are fast on CPU.

The training forms compute convolution and pooling as matrix products and slices.
Converters would export them as many small operations.
"""

from collections.abc import Callable

import jax
from flax import nnx
from jax import lax

from src.models.architecture import Model
from src.models.convolution import average_pool, max_pool


def plain_average_pool(images: jax.Array) -> jax.Array:
    """`average_pool` as one operation of XLA."""
    return nnx.avg_pool(images, window_shape=(2, 2), strides=(2, 2))


def plain_max_pool(images: jax.Array) -> jax.Array:
    """`max_pool` as one operation of XLA."""
    return nnx.max_pool(images, window_shape=(2, 2), strides=(2, 2))


PLAIN_POOLS: dict[Callable[..., jax.Array], Callable[..., jax.Array]] = {
    average_pool: plain_average_pool,
    max_pool: plain_max_pool,
}


def plain_model(model: Model) -> Model:
    """A copy of the network for inference, with plain operations.

    Every attribute `conv_general_dilated` becomes `lax.conv_general_dilated`, and every
    attribute `pool` the plain form of its function. The copy is in `eval` mode.
    """
    plain = nnx.clone(model)
    plain.eval()
    for _, module in nnx.iter_modules(plain):
        if hasattr(module, "conv_general_dilated"):
            module.conv_general_dilated = lax.conv_general_dilated
        pool = getattr(module, "pool", None)
        if callable(pool):
            module.pool = PLAIN_POOLS.get(pool, pool)
    return plain
