"""Fast convolution and pooling, compared with lax: values and gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from src.models.convolution import average_pool, fast_convolution, max_pool

LAYOUT = ("NHWC", "HWIO", "NHWC")


def arrays(*shapes, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def by_lax(images, kernel, padding):
    numbers = lax.conv_dimension_numbers(images.shape, kernel.shape, LAYOUT)
    return lax.conv_general_dilated(
        images, kernel, (1, 1), padding, dimension_numbers=numbers
    )


def ours(images, kernel, padding):
    numbers = lax.conv_dimension_numbers(images.shape, kernel.shape, LAYOUT)
    return fast_convolution(images, kernel, (1, 1), padding, dimension_numbers=numbers)


slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 0), (1, 3))])
@pytest.mark.parametrize(
    ("size", "window", "channels"),
    [
        slow((28, 28), (3, 3), (1, 32)),
        slow((14, 14), (3, 3), (32, 64)),
        ((9, 11), (3, 3), (64, 8)),
        slow((7, 5), (3, 3), (64, 8)),
        ((9, 8), (5, 5), (3, 4)),
        slow((8, 7), (1, 1), (2, 3)),
        ((7, 9), (2, 4), (3, 1)),
    ],
)
def test_convolution_equals_lax_in_value_and_gradients(padding, size, window, channels):
    images, kernel = arrays((2, *size, channels[0]), (*window, *channels))

    @partial(jax.jit, static_argnums=0)
    def value_and_gradients(convolution):
        values, backward = jax.vjp(
            lambda *pair: convolution(*pair, padding), images, kernel
        )
        (slope,) = arrays(values.shape)
        return values, *backward(slope)

    found, expected = value_and_gradients(ours), value_and_gradients(by_lax)
    for mine, theirs in zip(found, expected, strict=True):
        scale = float(jnp.abs(theirs).max())
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 32])
def test_weight_that_meets_only_zeros_has_gradient_zero(channels):
    """Adam divides by the gradient, so rounding noise would become full steps."""
    images, kernel, slope = arrays(
        *((32, 4, 4, channels), (3, 3, channels, 8), (32, 4, 4, 8))
    )
    images = images.at[:, 1:].set(0)  # the kernel's last row sees only zeros
    _, backward = jax.vjp(lambda kernel: ours(images, kernel, "SAME"), kernel)
    (gradient,) = backward(slope)
    np.testing.assert_array_equal(gradient[2], 0)
    assert (gradient[:2, 1] != 0).all()


def test_convolution_keeps_bfloat16():
    images, kernel = arrays((2, 9, 9, 3), (3, 3, 3, 8), dtype=jnp.bfloat16)
    expected = by_lax(
        *(array.astype(jnp.float32) for array in (images, kernel)), "SAME"
    )
    found = ours(images, kernel, "SAME")
    assert found.dtype == jnp.bfloat16
    # Eight bits of mantissa: about 0.5 % of a sum of 27 products of order one.
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=0.1)


@pytest.mark.parametrize(
    "options", [{"strides": 2}, {"kernel_dilation": 2}, {"feature_group_count": 2}]
)
def test_strides_dilation_and_groups_are_left_to_lax(options):
    (images,) = arrays((2, 9, 9, 4))
    layers = [
        nnx.Conv(4, 8, (3, 3), **options, **given, rngs=nnx.Rngs(0))
        for given in ({}, {"conv_general_dilated": fast_convolution})
    ]
    expected, found = (layer(images) for layer in layers)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(7, 5), *map(slow, [(4, 4), (28, 28)])])
def test_pooling_equals_flax_in_value_and_gradient(size):
    (images,) = arrays((2, *size, 3))
    for mine, theirs in ((average_pool, nnx.avg_pool), (max_pool, nnx.max_pool)):
        flax = lambda images, pool=theirs: pool(images, (2, 2), strides=(2, 2))  # noqa: E731
        expected, backward = jax.vjp(flax, images)
        found, our_backward = jax.vjp(mine, images)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
        (slope,) = arrays(expected.shape)
        np.testing.assert_allclose(
            our_backward(slope)[0], backward(slope)[0], rtol=1e-6
        )


def test_equal_pixels_of_a_window_share_the_gradient_of_max_pooling():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 3, (2, 7, 8, 3)), jnp.float32)
    windows = images[:, :6].reshape(2, 3, 2, 4, 2, 3)
    pooled, backward = jax.vjp(max_pool, images)
    slope = rng.normal(size=pooled.shape).astype(np.float32)
    largest = np.asarray(windows).max((2, 4), keepdims=True)
    chosen = np.asarray(windows) == largest
    shares = chosen / chosen.sum((2, 4), keepdims=True) * slope[:, :, None, :, None]
    (found,) = backward(slope)
    np.testing.assert_array_equal(pooled, largest[:, :, 0, :, 0])
    np.testing.assert_allclose(found[:, :6], shares.reshape(2, 6, 8, 3), rtol=1e-6)
    assert not found[:, 6].any()
