"""Pooling against Flax: values and gradients of whole numbers, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from src.models.pooling import max_pool, relu_average_pool, relu_max_pool


def flax_max(images):
    return nnx.max_pool(images, (2, 2), strides=(2, 2))


FLAX = {
    max_pool: flax_max,
    relu_max_pool: lambda images: flax_max(nnx.relu(images)),
    relu_average_pool: lambda images: nnx.avg_pool(nnx.relu(images), (2, 2), (2, 2)),
}


def value_and_gradient(pool, images):
    values, backward = jax.vjp(pool, images)
    # Powers of two: so the order of sums does not change the bits of a mean.
    exponents = np.random.default_rng(1).integers(-3, 3, values.shape)
    return values, *backward(jnp.asarray(2.0**exponents, values.dtype))


@pytest.mark.parametrize("pool", FLAX)
@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        *((size, "float32") for size in [(6, 8), (7, 5), (2, 2), (3, 3)]),
        ((6, 5), "bfloat16"),
        ((6, 5), "float16"),
    ],
)
def test_value_and_gradient_equal_flax(pool, size, dtype):
    # Whole numbers: many pixels of a window are equal, or zero.
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(-3, 4, (2, *size, 3)), dtype)
    found, expected = (value_and_gradient(each, images) for each in (pool, FLAX[pool]))
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def test_first_of_equal_pixels_gets_the_gradient_of_max_pooling():
    images = jnp.asarray([[5, 1], [5, 5]], jnp.float32).reshape(1, 2, 2, 1)
    _, gradient = value_and_gradient(max_pool, images)
    assert (np.asarray(gradient).ravel() != 0).tolist() == [True, False, False, False]


@pytest.mark.parametrize("pool", FLAX)
def test_pooling_keeps_a_byte_per_window_for_its_gradient(pool):
    images = jnp.ones((4, 8, 8, 3))
    _, backward = jax.vjp(pool, images)
    kept = [leaf for leaf in jax.tree.leaves(backward) if leaf.size > 1]
    assert kept
    for leaf in kept:
        assert leaf.shape == (4, 4, 4, 3)
        assert leaf.dtype in (jnp.uint8, jnp.bool_, jnp.float32)
    assert any(leaf.dtype == jnp.uint8 for leaf in kept)
