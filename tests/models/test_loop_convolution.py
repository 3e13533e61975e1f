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
    ((2, 9, 9, 32), (3, 3, 32, 32), (1, 1), "SAME"),  # by tiles
    ((2, 6, 6, 32), (1, 1, 32, 32), (1, 1), "VALID"),  # by patches
]


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def with_gradients(convolution, images, kernel, *settings, **options):
    """The outputs, and the gradients of their product with fixed numbers."""

    def outputs(images, kernel):
        return convolution(
            images, kernel, *settings, dimension_numbers=LAYOUT, **options
        )

    found, backward = jax.vjp(outputs, images, kernel)
    return found, *backward(jnp.asarray(normal(found.shape, seed=2), found.dtype))


@pytest.mark.parametrize(("images", "kernel", "strides", "padding"), CASES)
def test_outputs_and_gradients_are_those_of_lax(images, kernel, strides, padding):
    arrays = normal(images), normal(kernel, seed=1)
    found = with_gradients(loop_convolution, *arrays, strides, padding)
    expected = with_gradients(lax.conv_general_dilated, *arrays, strides, padding)
    for array, other in zip(found, expected, strict=True):
        assert array.shape == other.shape
        np.testing.assert_allclose(array, other, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(
    "options", [{"feature_group_count": 2}, {"rhs_dilation": (2, 2)}]
)
def test_groups_and_dilation_are_left_to_lax(options):
    groups = options.get("feature_group_count", 1)
    arrays = normal((2, 8, 8, 4)), normal((3, 3, 4 // groups, 6), seed=1)
    found = with_gradients(loop_convolution, *arrays, (1, 1), "SAME", **options)
    expected = with_gradients(
        lax.conv_general_dilated, *arrays, (1, 1), "SAME", **options
    )
    for array, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, other)


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
