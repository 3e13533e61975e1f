"""Convolutions with fewer products, compared with NumPy in double precision."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from src.models.loop_convolution import loop_convolution
from src.models.winograd import LAYOUT, is_faster, winograd_convolution

CASES = [  # images, kernel, pads
    ((2, 8, 6, 5), (3, 3, 5, 4), ((1, 1), (1, 1))),
    ((2, 7, 5, 3), (3, 2, 3, 4), ((0, 0), (0, 0))),
    ((1, 9, 5, 2), (3, 1, 2, 3), ((2, 0), (0, 3))),
    ((3, 3, 4, 2), (3, 3, 2, 2), ((0, 0), (1, 0))),  # one row
    ((2, 11, 4, 3), (9, 2, 3, 4), ((0, 0), (0, 1))),  # output of three rows
    ((2, 14, 14, 3), (14, 14, 3, 4), ((1, 1), (1, 1))),
    ((2, 8, 6, 3), (3, 3, 3, 2), ((-1, -2), (0, 0))),
]


def normal(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_hand(images, kernel, pads):
    """The convolution in double precision."""
    pads = [(0, 0), *pads, (0, 0)]
    cut = tuple(slice(max(-low, 0), min(high, 0) or None) for low, high in pads)
    images = images.astype(np.float64)[cut]
    images = np.pad(images, [(max(low, 0), max(high, 0)) for low, high in pads])
    windows = np.lib.stride_tricks.sliding_window_view(images, kernel.shape[:2], (1, 2))
    return np.einsum("nhwcij,ijcf->nhwf", windows, kernel.astype(np.float64))


@pytest.mark.parametrize(("images", "kernel", "pads"), CASES)
def test_output_is_that_of_numpy(images, kernel, pads):
    arrays = normal(images, seed=0), normal(kernel, seed=1)
    found = jax.jit(lambda *arrays: winograd_convolution(*arrays, pads))(*arrays)
    expected = by_hand(*arrays, pads)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * abs(expected).max())


@pytest.mark.parametrize("size", [3, 16])
def test_rounding_error_is_at_most_four_times_that_of_lax(size):
    arrays = normal((4, 16, 16, 32), seed=0), normal((size, 3, 32, 8), seed=1)
    pads = (1, 1), (1, 1)
    exact = by_hand(*arrays, pads)
    ours = winograd_convolution(*map(jnp.asarray, arrays), pads)
    plain = lax.conv_general_dilated(*arrays, (1, 1), pads, dimension_numbers=LAYOUT)
    error, other = (np.sqrt(np.mean((found - exact) ** 2)) for found in (ours, plain))
    assert error < 4 * other


@pytest.mark.parametrize(
    ("images", "kernel"),
    [((16, 16, 16, 32), (3, 3, 32, 64)), ((32, 16, 16, 16), (16, 16, 16, 64))],
)
def test_half_of_the_multiplications_are_left(images, kernel):
    pads = (1, 1), (1, 1)

    def plain(images, kernel):
        settings = (1, 1), pads
        return lax.conv_general_dilated(
            images, kernel, *settings, dimension_numbers=LAYOUT
        )

    def products(convolution):
        """Multiplications in the convolutions of the program, padding included."""
        arrays = (
            jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (images, kernel)
        )
        equations = jax.make_jaxpr(convolution)(*arrays).eqns
        return sum(
            equation.outvars[0].aval.size * np.prod(equation.invars[1].aval.shape[:3])
            for equation in equations
            if equation.primitive.name == "conv_general_dilated"
        )

    fewer = products(lambda *arrays: winograd_convolution(*arrays, pads))
    assert fewer == products(plain) / 2


@pytest.mark.parametrize(
    ("images", "kernel", "pads", "expected"),
    [
        ((16, 14, 14, 32), (3, 3, 32, 64), 1, True),
        ((16, 14, 14, 16), (3, 3, 16, 128), 1, False),  # few channels
        ((16, 16, 16, 32), (3, 3, 32, 32), 1, False),  # few weights
        ((16, 4, 4, 128), (3, 3, 128, 128), 1, False),  # few pixels
        ((16, 14, 14, 32), (5, 5, 32, 64), 1, False),  # five rows
        ((128, 3, 3, 64), (1, 1, 64, 128), 0, False),  # one row
        ((128, 2, 2, 64), (3, 3, 64, 64), 1, False),  # two rows of output
        # gradients to kernels
        ((32, 14, 14, 16), (14, 14, 16, 64), 1, True),
        ((16, 14, 14, 16), (14, 14, 16, 64), 1, False),
        ((64, 2, 2, 128), (2, 2, 128, 64), 1, False),
    ],
)
def test_only_large_convolutions_of_three_rows_are_faster(
    images, kernel, pads, expected
):
    arrays = jnp.zeros(images), jnp.zeros(kernel)
    assert is_faster(*arrays, ((pads, pads), (pads, pads))) is expected


def test_bfloat16_is_left_to_lax():
    """Values at points lose digits, and bfloat16 has few."""
    images = jnp.zeros((16, 14, 14, 32), jnp.bfloat16)
    kernel = jnp.zeros((3, 3, 32, 64), jnp.bfloat16)
    assert not is_faster(images, kernel, ((1, 1), (1, 1)))


def test_function_with_symbolic_batch_size_is_exported():
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, 14, 14, 32), jnp.float32)
    kernel = jnp.asarray(normal((3, 3, 32, 64), seed=1))
    settings = (1, 1), "SAME"
    exported = jax.export.export(
        jax.jit(lambda images: loop_convolution(images, kernel, *settings))
    )(images)
    given = normal((2, 14, 14, 32), seed=0)
    found = exported.call(given)
    expected = by_hand(given, np.asarray(kernel), ((1, 1), (1, 1)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
