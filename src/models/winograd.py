"""Winograd's convolution: half of the multiplications, for kernels of 3 rows.

Source: F(4, 3) of Lavin and Gray 2016, arXiv:1509.09308, here along the rows of the
images only. Rows are coefficients of polynomials, which are multiplied by their values
at six points: 3 rows of the kernel and 4 rows of the output take 6 products instead of
12. The gradient to such a kernel has 3 rows of output, and is computed in the same way.

Rows of a tile mix: a sum of zeros may come out as rounding noise, and a NaN spreads.
"""

from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Pads = Sequence[tuple[int, int]]

LAYOUT = ("NHWC", "HWIO", "NHWC")
LONG, SHORT = 4, 3  # rows of output and kernel; changed places in its gradient
POINTS = LONG + SHORT - 1
# Smaller convolutions lose more by the transforms than they gain.
MIN_CHANNELS, MIN_WEIGHTS, MIN_PIXELS = 32, 2048, 512


def values_at_points(size: int) -> np.ndarray:
    """`[6, size]`; times `size` coefficients: values at 0, 1, -1, 2, -2, infinity."""
    powers = np.vander([0, 1, -1, 2, -2], size, increasing=True)
    return np.vstack([powers, np.eye(size)[-1]])


# They cancel. With them, the transform of the images is in whole numbers.
SCALES = np.array([4, -6, -6, 24, 24, 1])[:, None]
OF_IMAGES = np.rint(SCALES * np.linalg.inv(values_at_points(POINTS)).T)
OF_SHORT, OF_LONG = values_at_points(SHORT) / SCALES, values_at_points(LONG)


def is_faster(images: jax.Array, kernel: jax.Array, pads: Pads) -> bool:
    """Whether `winograd_convolution` computes this convolution, and faster than lax."""
    batch, height, width, channels = images.shape
    size, _, _, filters = kernel.shape
    rows = output_rows(images, kernel, pads)
    # Fewer rows take no fewer products. An exported function has a symbolic batch size.
    if not isinstance(batch, int) or min(size, rows) != SHORT:
        return False
    if size == SHORT:
        inputs, pixels = channels, batch * rows * width
    else:  # the gradient to a kernel: the batch takes the place of the channels
        inputs, pixels = batch, height * width * channels
    large = min(inputs, filters) >= MIN_CHANNELS and inputs * filters >= MIN_WEIGHTS
    return large and pixels >= MIN_PIXELS and images.dtype == jnp.float32


def output_rows(images: jax.Array, kernel: jax.Array, pads: Pads) -> int:
    """Rows of the convolution's output, for strides of 1."""
    return images.shape[1] + sum(pads[0]) - len(kernel) + 1


def winograd_convolution(images: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
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
    columns = (0, 0), pads[1]  # the rows are padded already
    pairs = zip(combine(OF_IMAGES, seen), combine(of_kernel, weights), strict=True)
    products = [
        lax.conv_general_dilated(*pair, (1, 1), columns, dimension_numbers=LAYOUT)
        for pair in pairs
    ]
    output = jnp.stack(combine(of_output.T, products), axis=2)
    return output.reshape(len(images), -1, *output.shape[3:])[:, :rows]


def every_fourth(
    array: jax.Array, axis: int, count: int, tiles: int, before: int = 0
) -> list[jax.Array]:
    """Row n of every tile, for n below `count`; tiles start 4 rows apart.

    The first starts `before` rows ahead of the array, in zeros.
    """
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
    return [
        reduce(jnp.add, [n * array for n, array in zip(row, arrays, strict=True) if n])
        for row in matrix.tolist()
    ]
