"""The fused block against lax's three layers, and slices against the whole batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from src.models.convolution import average_pool, max_pool
from src.models.fused_block import convolve_relu_pool, fits_blocks
from src.models.microbatch import in_slices, save_for_backward

LAX_POOL = {
    average_pool: lambda images: nnx.avg_pool(images, (2, 2), (2, 2)),
    max_pool: lambda images: nnx.max_pool(images, (2, 2), (2, 2)),
}


def some(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def value_and_gradients(function, layer, images):
    """The value, and the gradients to the layer's parameters and to the images."""
    graph, weights = nnx.split(layer)

    @jax.jit
    def compiled(weights, images):
        values, backward = jax.vjp(
            lambda weights, images: function(nnx.merge(graph, weights), images),
            weights,
            images,
        )
        return values, backward(some(*values.shape))

    return jax.tree.leaves(compiled(weights, images))


slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize("pool", LAX_POOL)
@pytest.mark.parametrize(
    ("size", "channels", "options", "fits"),
    [
        ((28, 28), 1, {}, True),
        slow((9, 8), 3, {}, True),
        ((8, 7), 2, {}, True),
        slow((2, 2), 1, {}, True),
        # Layers that the fused form cannot compute.
        ((8, 8), 16, {}, False),
        slow((8, 8), 1, {"strides": 2}, False),
        slow((8, 8), 1, {"padding": "VALID"}, False),
        ((8, 8), 1, {"use_bias": False}, True),
        slow((8, 8), 1, {"kernel_size": (5, 5)}, False),
        slow((8, 8), 2, {"feature_group_count": 2}, False),
    ],
)
def test_convolve_relu_pool_equals_the_three_layers_of_lax(
    pool, size, channels, options, fits
):
    images = some(3, *size, channels)
    layer = nnx.Conv(
        channels, 8, **{"kernel_size": (3, 3), **options}, rngs=nnx.Rngs(0)
    )
    assert fits_blocks(layer, images) == fits
    if layer.bias is not None:
        layer.bias[...] = some(8) / 10
    found = value_and_gradients(
        lambda conv, images: convolve_relu_pool(conv, images, pool), layer, images
    )
    expected = value_and_gradients(
        lambda conv, images: LAX_POOL[pool](nnx.relu(conv(images))), layer, images
    )
    assert len(found) == (3 if layer.bias is None else 4)
    for mine, theirs in zip(found, expected, strict=True):
        scale = float(jnp.abs(theirs).max())
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5 * scale)


def test_masked_kernel_is_computed_layer_by_layer():
    mask = jnp.tile(jnp.eye(3)[:, :, None, None], 8)
    layer = nnx.Conv(1, 8, (3, 3), mask=mask, rngs=nnx.Rngs(0))
    images = some(3, 8, 8, 1)
    assert not fits_blocks(layer, images)
    found = convolve_relu_pool(layer, images, max_pool)
    expected = LAX_POOL[max_pool](nnx.relu(layer(images)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 31, 32, 48, 64, 67, 100])
def test_slices_give_the_results_of_the_whole_batch(batch):
    images, weights = some(batch, 5), some(5, 4)

    def loss(weights, images, sliced):
        def function(images):
            return jnp.tanh(save_for_backward(images @ weights)) ** 2

        outputs = in_slices(function, images) if sliced else function(images)
        return (outputs * some(batch, 4)).sum()

    found, expected = (
        jax.value_and_grad(loss, argnums=(0, 1))(weights, images, sliced)
        for sliced in (True, False)
    )
    for mine, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("batch", "size"), [(64, 32), (48, 24), (100, 25), (67, 67)])
def test_slice_is_the_largest_divisor_of_the_batch_up_to_32(batch, size):
    seen = []

    def function(images):
        seen.append(images.shape[0])
        return images

    in_slices(function, some(batch, 2))
    assert set(seen) == {size}
