"""Convolutions for loops, compared with lax: outputs and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from src.models.loop_convolution import loop_convolution

LAYOUT = ("NHWC", "HWIO", "NHWC")
CASES = [  # image, kernel, strides, padding
    ((3, 9, 8, 4), (3, 3, 4, 5), (1, 1), "SAME"),
    ((2, 7, 11, 3), (5, 4, 3, 2), (1, 1), [(3, 1), (0, 2)]),
    ((2, 9, 9, 3), (3, 3, 3, 4), (2, 2), "SAME"),
    ((2, 8, 8, 3), (3, 3, 3, 4), (2, 2), "SAME"),
    ((2, 11, 10, 3), (7, 7, 3, 4), (2, 3), [(3, 3), (3, 3)]),
    ((2, 9, 8, 5), (1, 1, 5, 6), (2, 2), "VALID"),
    ((2, 10, 9, 2), (2, 2, 2, 3), (4, 4), "VALID"),  # pixels that no window reaches
    ((33, 9, 9, 8), (3, 3, 8, 8), (1, 1), "SAME"),  # batches that 32 does not divide
    ((48, 5, 4, 2), (2, 3, 2, 3), (1, 1), "VALID"),
    ((64, 4, 4, 1), (3, 3, 1, 2), (1, 1), "SAME"),
    # the kernel's gradient in blocks of 10 and 9, and of 5, 5, 5 and 4 images
    ((19, 16, 16, 5), (3, 3, 5, 64), (1, 1), "SAME"),
    ((19, 20, 21, 3), (3, 3, 3, 144), (1, 1), "VALID"),
    # by Winograd's convolution, forward and backward
    ((16, 9, 8, 33), (3, 3, 33, 64), (1, 1), "SAME"),
    ((5, 13, 12, 64), (3, 5, 64, 32), (1, 1), [(4, 0), (0, 1)]),
]


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def with_gradients(convolution, images, kernel, *settings, **options):
    """The outputs, and the gradients of their product with fixed numbers."""

    def outputs(images, kernel):
        return convolution(
            images, kernel, *settings, dimension_numbers=LAYOUT, **options
        )

    @jax.jit  # one compilation, instead of one per operation
    def both(images, kernel):
        found, backward = jax.vjp(outputs, images, kernel)
        return found, *backward(jnp.asarray(normal(found.shape, seed=2), found.dtype))

    return both(images, kernel)


@pytest.mark.parametrize(("images", "kernel", "strides", "padding"), CASES)
def test_outputs_and_gradients_are_those_of_lax(images, kernel, strides, padding):
    arrays = normal(images), normal(kernel, seed=1)
    found = with_gradients(loop_convolution, *arrays, strides, padding)
    expected = with_gradients(lax.conv_general_dilated, *arrays, strides, padding)
    for array, other in zip(found, expected, strict=True):
        assert array.shape == other.shape
        np.testing.assert_allclose(array, other, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
@pytest.mark.parametrize("padding", ["SAME", "VALID", [(2, 0), (1, 3)]])
@pytest.mark.parametrize(
    ("filters", "options"),
    [
        (6, {"feature_group_count": 2}),
        (4, {"feature_group_count": 4}),  # depthwise
        (8, {"feature_group_count": 4}),
        (5, {"rhs_dilation": (2, 3)}),
        (4, {"rhs_dilation": (2, 1), "feature_group_count": 4}),
    ],
)
def test_groups_and_dilation_are_those_of_lax(filters, options, strides, padding):
    groups = options.get("feature_group_count", 1)
    arrays = normal((2, 11, 12, 4)), normal((3, 3, 4 // groups, filters), seed=1)
    found = with_gradients(loop_convolution, *arrays, strides, padding, **options)
    expected = with_gradients(
        lax.conv_general_dilated, *arrays, strides, padding, **options
    )
    for array, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, other, rtol=1e-4, atol=1e-4)


def test_dilated_images_are_those_of_lax():
    arrays = normal((2, 5, 4, 3)), normal((3, 3, 3, 4), seed=1)
    settings = (1, 1), [(2, 2), (1, 2)]
    found = with_gradients(loop_convolution, *arrays, *settings, lhs_dilation=(2, 3))
    expected = with_gradients(
        lax.conv_general_dilated, *arrays, *settings, lhs_dilation=(2, 3)
    )
    for array, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "channels"), [((9,), 3), ((5, 4, 6), 2)])
def test_convolutions_of_one_and_three_dimensions_are_left_to_lax(size, channels):
    images = jnp.asarray(normal((2, *size, channels)))
    window = (3,) * len(size)
    layers = [
        nnx.Conv(channels, 4, window, **given, rngs=nnx.Rngs(0))
        for given in ({}, {"conv_general_dilated": loop_convolution})
    ]
    expected, found = (layer(images) for layer in layers)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 32])
def test_weight_that_meets_only_zeros_has_gradient_zero(channels):
    """Adam divides by the gradient, so rounding noise would become full steps.

    With 64 filters Winograd's convolution leaves noise, in rows that meet only zeros.
    """
    images, kernel = normal((32, 4, 4, channels)), normal((3, 3, channels, 8), seed=1)
    images[:, 1:] = 0  # the kernel's last row sees only zeros
    _, _, gradient = with_gradients(loop_convolution, images, kernel, (1, 1), "SAME")
    np.testing.assert_array_equal(gradient[2], 0)
    assert (np.asarray(gradient)[:2, 1] != 0).all()


def test_layer_in_half_precision_keeps_its_dtype_in_both_directions():
    layer = nnx.Conv(
        3,
        4,
        kernel_size=(3, 3),
        strides=2,
        dtype=jnp.bfloat16,
        conv_general_dilated=loop_convolution,
        rngs=nnx.Rngs(0),
    )
    images = jnp.asarray(normal((2, 8, 8, 3)))
    assert layer(images).dtype == jnp.bfloat16
    grads = nnx.grad(lambda layer: layer(images).astype(jnp.float32).sum())(layer)
    assert grads.kernel[...].dtype == jnp.float32


def test_gradients_inside_a_compiled_loop_are_those_outside():
    images, kernel = normal((2, 8, 8, 3)), normal((3, 3, 3, 4), seed=1)

    def step(_, kernel):
        settings = (2, 2), "SAME"
        _, _, grad = with_gradients(loop_convolution, images, kernel, *settings)
        return kernel - 0.01 * grad

    looped = jax.jit(lambda count: lax.fori_loop(0, count, step, kernel))(3)
    expected = kernel
    for index in range(3):
        expected = step(index, expected)
    np.testing.assert_allclose(looped, expected, rtol=1e-4, atol=1e-5)
