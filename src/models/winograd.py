"""Convolution with half of the multiplications, for 3 rows of weights.

Source: Winograd's F(4, 3), as in Lavin and Gray 2016, arXiv:1509.09308, here along the
rows of the images only. The rows are coefficients of polynomials, which are multiplied
by their values at six points: 3 rows of a kernel and 4 rows of the output take 6
products instead of 12. Rounding errors stay near those of a plain convolution.
"""

from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Pads = Sequence[tuple[int, int]]

LAYOUT = ("NHWC", "HWIO", "NHWC")
LONG, SHORT = 4, 3  # rows
POINTS = LONG + SHORT - 1
# Smaller convolutions lose more by the transforms than they gain.
MIN_CHANNELS, MIN_WEIGHTS, MIN_PIXELS = 32, 2048, 512


def values_at_points(size: int) -> np.ndarray:
    """`[6, size]`; times `size` coefficients: values at 0, 1, -1, 2, -2, infinity."""
    powers = np.vander([0, 1, -1, 2, -2], size, increasing=True)
    return np.vstack([powers, np.eye(size)[-1]])


# Any scales will do; with these, the transform of the images is in whole numbers.
SCALES = np.array([4, -6, -6, 24, 24, 1])[:, None]
OF_IMAGES = np.rint(SCALES * np.linalg.inv(values_at_points(POINTS)).T)
OF_SHORT, OF_LONG = values_at_points(SHORT) / SCALES, values_at_points(LONG)


def is_faster(images: jax.Array, kernel: jax.Array, pads: Pads) -> bool:
    """Whether `convolve_rows` computes this convolution, and faster than lax."""
    batch, height, width, channels = images.shape
    size, _, _, filters = kernel.shape
    rows = output_rows(images, kernel, pads)
    if size == SHORT:
        inputs, pixels = channels, batch * rows * width
    elif rows == SHORT:  # the gradient to a kernel: its channels are the batch
        inputs, pixels = batch, height * width * channels
    else:
        return False
    large = min(inputs, filters) >= MIN_CHANNELS and inputs * filters >= MIN_WEIGHTS
    return large and pixels >= MIN_PIXELS and images.dtype == jnp.float32


def output_rows(images: jax.Array, kernel: jax.Array, pads: Pads) -> int:
    """Rows of the convolution's output, for strides of 1."""
    return images.shape[1] + sum(pads[0]) - len(kernel) + 1


def convolve_rows(images: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """`lax.conv_general_dilated` with strides of 1; kernel or output has 3 rows.

    Args:
        images: `[batch, height, width, channels]`.
        kernel: `[rows, columns, channels, filters]`.
        pads: pixels of zeros before and after, for rows and columns.

    Returns:
        `[batch, height, width, filters]`, sized by the padding.
    """
    size, rows = len(kernel), output_rows(images, kernel, pads)
    of_kernel, of_output = (OF_SHORT, OF_LONG) if size == SHORT else (OF_LONG, OF_SHORT)
    tile, output_tile = of_kernel.shape[1], of_output.shape[1]
    tiles, output_tiles = -(-size // tile), -(-rows // output_tile)  # one of them is 1
    seen = every_fourth(images, 1, POINTS, max(tiles, output_tiles), pads[0][0])
    weights = every_fourth(kernel, 0, tile, tiles)
    pairs = zip(combine(OF_IMAGES, seen), combine(of_kernel, weights), strict=True)
    columns = (0, 0), pads[1]  # the rows are padded already
    products = [
        lax.conv_general_dilated(*pair, (1, 1), columns, dimension_numbers=LAYOUT)
        for pair in pairs
    ]
    output = jnp.stack(combine(of_output.T, products), axis=2)
    return output.reshape(len(images), -1, *output.shape[3:])[:, :rows]


def every_fourth(
    array: jax.Array, axis: int, count: int, tiles: int, before: int = 0
) -> list[jax.Array]:
    """Rows 0, 4, 8 ...; 1, 5, 9 ...; `count` such lists of the array behind zeros."""
    last = LONG * (tiles - 1)
    pads = [(0, 0, 0)] * array.ndim
    pads[axis] = (before, last + count - before - array.shape[axis], 0)
    padded = lax.pad(array, jnp.zeros((), array.dtype), pads)
    return [
        lax.slice_in_dim(padded, first, first + last + 1, LONG, axis)
        for first in range(count)
    ]


def combine(matrix: np.ndarray, arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """The product of a matrix with a vector of arrays."""
    sums = []
    for row in matrix:
        pairs = zip(row, arrays, strict=True)
        terms = [float(factor) * array for factor, array in pairs if factor]
        sums.append(reduce(jnp.add, terms))
    return sums
