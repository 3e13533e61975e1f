"""A network with XLA's own operations instead of the ones that are fast on CPU.

The others compute pooling and depthwise convolution from slices. Converters would
export them as many small operations.
"""

from functools import partial
from typing import Any

import jax
from flax import nnx
from jax import lax

from src.models.architecture import Model
from src.models.pooling import Pool, max_pool, relu_average_pool, relu_max_pool
from src.models.resnet18 import overlapping_max_pool


def plain_relu_average_pool(images: jax.Array) -> jax.Array:
    """`relu_average_pool` as two operations of XLA."""
    return nnx.avg_pool(nnx.relu(images), window_shape=(2, 2), strides=(2, 2))


def plain_max_pool(images: jax.Array) -> jax.Array:
    """`max_pool` as one operation of XLA."""
    return nnx.max_pool(images, window_shape=(2, 2), strides=(2, 2))


def plain_relu_max_pool(images: jax.Array) -> jax.Array:
    """`relu_max_pool` as two operations of XLA."""
    return nnx.relu(plain_max_pool(images))


def plain_overlapping_max_pool(images: jax.Array) -> jax.Array:
    """`overlapping_max_pool` as one operation of XLA."""
    pads = ((1, 1), (1, 1))
    return nnx.max_pool(images, window_shape=(3, 3), strides=(2, 2), padding=pads)


PLAIN_POOLS: dict[Pool, Pool] = {
    relu_average_pool: plain_relu_average_pool,
    max_pool: plain_max_pool,
    relu_max_pool: plain_relu_max_pool,
    overlapping_max_pool: plain_overlapping_max_pool,
}


def plain_model(model: Model) -> Model:
    """A copy of the network for inference, with plain operations.

    Every attribute `conv_general_dilated` becomes `lax.conv_general_dilated`, and every
    attribute `pool` the plain form of its function. The copy is in `eval` mode.
    """
    plain = nnx.clone(model)
    plain.eval()  # type: ignore[no-untyped-call]
    options: dict[str, Any] = {"raise_if_not_found": False}
    convolution = lax.conv_general_dilated
    plain.set_attributes(conv_general_dilated=convolution, **options)
    for fast, its_plain_form in PLAIN_POOLS.items():
        plain.set_attributes(partial(pools_by, fast), pool=its_plain_form, **options)
    return plain


def pools_by(pool: Pool, _: object, module: object) -> bool:
    """Whether a module's attribute `pool` is this function; a filter of NNX."""
    return getattr(module, "pool", None) is pool
