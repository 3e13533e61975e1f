"""Convolution and pooling that XLA compiles to fast code inside a loop on CPU.

Inside `lax.fori_loop`, XLA's CPU backend compiles the gradient of
`lax.conv_general_dilated` to plain nested loops. A step then takes about 20 times as
long as outside the loop. Matrix products stay fast there, so on CPU a convolution is
written as matrix products, in one of two ways:

- Winograd tiles for 3x3 kernels over many channels. They need 2.25 times fewer
  multiplications and half the memory traffic of patches.
- Patches ("im2col") for everything else, including images of a few pixels.

GPUs and TPUs use `lax.conv_general_dilated`.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Grid = list[list[jax.Array]]
Padding = Sequence[tuple[int, int]]
Pool = Callable[[jax.Array], jax.Array]

# With fewer channels the tiles' extra additions cost more than they save.
MIN_TILED_CHANNELS = 8
# In images hardly larger than a kernel, some weights meet only padding or the zeros of
# a relu. Their gradient is exactly 0, but tiles leave rounding noise there. Adam
# divides by the gradient's size, so it would turn that noise into full steps.
MIN_TILED_PIXELS = 64


def fast_convolution(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Padding,
    **options: Any,  # noqa: ANN401 - passed on to lax
) -> jax.Array:
    """Replaces `lax.conv_general_dilated` as an argument of `nnx.Conv`.

    Args:
        images: `[batch, height, width, channels]`.
        kernel: `[rows, columns, channels, filters]`.
        strides: of rows and columns; lax handles strides other than 1.
        padding: 'SAME', 'VALID', or pixels before and after, for rows and columns.
        options: of `lax.conv_general_dilated`; lax handles dilation and groups.

    Returns:
        `[batch, height, width, filters]`, sized by the padding.
    """

    def by_lax(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(images, kernel, strides, padding, **options)

    def by_products(images: jax.Array, kernel: jax.Array) -> jax.Array:
        rows, columns, channels, _ = kernel.shape
        pads = padding
        if isinstance(pads, str):
            size = images.shape[1:3]
            pads = lax.padtype_to_pads(size, (rows, columns), strides, pads)
        if (
            (rows, columns) == (3, 3)
            and channels >= MIN_TILED_CHANNELS
            and images.shape[1] * images.shape[2] >= MIN_TILED_PIXELS
            and all(0 <= pad <= 2 for pair in pads for pad in pair)
            # In half precision the tiles' subtractions would lose too many bits.
            and images.dtype == jnp.float32
        ):
            return convolve_by_tiles(images, kernel, tuple(map(tuple, pads)))
        return convolve_by_patches(images, kernel, pads)

    if tuple(strides) != (1, 1) or not is_plain(options):
        return by_lax(images, kernel)
    return lax.platform_dependent(images, kernel, cpu=by_products, default=by_lax)


def is_plain(options: dict[str, Any]) -> bool:
    """Whether the options describe a convolution without dilation and groups."""
    return (
        tuple(options.get("lhs_dilation") or (1, 1)) == (1, 1)
        and tuple(options.get("rhs_dilation") or (1, 1)) == (1, 1)
        and options.get("feature_group_count", 1) == 1
    )


def convolve_by_patches(
    images: jax.Array, kernel: jax.Array, padding: Padding
) -> jax.Array:
    """Convolution as one matrix product of all patches with the kernel.

    Source: "im2col", Chellapilla et al. 2006.
    """
    rows, columns, channels, filters = kernel.shape
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    height = padded.shape[1] - rows + 1
    width = padded.shape[2] - columns + 1
    patches = jnp.concatenate(
        [
            padded[:, row : row + height, column : column + width]
            for row in range(rows)
            for column in range(columns)
        ],
        axis=-1,
    )
    return patches @ kernel.reshape(rows * columns * channels, filters)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_by_tiles(
    images: jax.Array, kernel: jax.Array, padding: Padding
) -> jax.Array:
    """3x3 convolution by tiles, whose gradient to the images uses tiles too.

    JAX's derived gradient adds up overlapping tiles pixel by pixel. XLA would repeat
    that for each pixel of the layer below.
    """
    return tile_products(images, kernel, padding)


def tiles_forward(
    images: jax.Array, kernel: jax.Array, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """The outputs, and the residuals: images and kernel."""
    return tile_products(images, kernel, padding), (images, kernel)


def tiles_backward(
    padding: Padding, residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The gradients to images and kernel."""
    images, kernel = residuals
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    back = [(2 - before, 2 - after) for before, after in padding]
    _, kernel_vjp = jax.vjp(partial(tile_products, images, padding=padding), kernel)
    (kernel_grad,) = kernel_vjp(cotangent)
    return tile_products(cotangent, flipped, back), kernel_grad


convolve_by_tiles.defvjp(tiles_forward, tiles_backward)


def tile_products(images: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Winograd's F(2x2, 3x3): 16 small matrix products give 2x2 outputs a tile.

    Source: Lavin and Gray 2016, arXiv:1509.09308, section 4.1.
    """
    (top, bottom), (left, right) = padding
    batch, height, width, channels = images.shape
    filters = kernel.shape[-1]
    height, width = height + top + bottom - 2, width + left + right - 2
    # The number of tiles. Half of a last tile may be cut off below.
    rows, columns = -(-height // 2), -(-width // 2)
    bottom, right = bottom + height % 2, right + width % 2
    padded = jnp.pad(images, ((0, 0), (top, bottom), (left, right), (0, 0)))
    inputs = transform(tile_pixels(padded, rows, columns), input_sums)
    kernels = transform(
        [[kernel[i, j] for j in range(3)] for i in range(3)], kernel_sums
    )
    products = [
        [
            pixel.reshape(batch * rows * columns, channels) @ weight
            for pixel, weight in zip(*pair, strict=True)
        ]
        for pair in zip(inputs, kernels, strict=True)
    ]
    lines = [
        jnp.concatenate(line, axis=-1).reshape(batch, rows, 1, 2 * columns, filters)
        for line in transform(products, output_sums)
    ]
    outputs = jnp.concatenate(lines, axis=2)
    outputs = outputs.reshape(batch, 2 * rows, 2 * columns, filters)
    return outputs[:, :height, :width]


def tile_pixels(padded: jax.Array, rows: int, columns: int) -> Grid:
    """The 4x4 input pixels of each tile, whose outputs are 2x2 pixels.

    Entry `[i][j]` is `[batch, rows, columns, channels]`: pixel (i, j) of every tile.
    """
    return [
        [padded[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2] for j in range(4)]
        for i in range(4)
    ]


def transform(
    grid: Grid, sums: Callable[[Sequence[jax.Array]], list[jax.Array]]
) -> Grid:
    """Applies `sums` to each column of the grid, then to each row."""
    columns = [sums(column) for column in zip(*grid, strict=True)]
    return [sums(row) for row in zip(*columns, strict=True)]


def input_sums(d: Sequence[jax.Array]) -> list[jax.Array]:
    """B transposed times d, in the paper's notation."""
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def kernel_sums(g: Sequence[jax.Array]) -> list[jax.Array]:
    """G times g."""
    return [g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]]


def output_sums(m: Sequence[jax.Array]) -> list[jax.Array]:
    """A transposed times m."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


@jax.custom_vjp
def average_pool(images: jax.Array) -> jax.Array:
    """Mean of each 2x2 window; drops an odd last row or column."""
    corners = window_corners(images)
    # Added one by one, so that XLA fuses the sum with the bias and relu before it.
    return (corners[0] + corners[1] + corners[2] + corners[3]) / 4


def average_pool_backward(images: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    """A quarter of the cotangent for each pixel of a window."""
    _, backward = jax.vjp(lambda images: pool_windows(images).mean((2, 4)), images)
    return backward(cotangent)


average_pool.defvjp(
    lambda images: (average_pool(images), images), average_pool_backward
)


@jax.custom_vjp
def max_pool(images: jax.Array) -> jax.Array:
    """Maximum of each 2x2 window; drops an odd last row or column."""
    return reduce(jnp.maximum, window_corners(images))


def max_pool_backward(images: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    """The cotangent for the largest pixel, shared by equal ones, as JAX derives it."""
    corners = window_corners(images)
    largest = reduce(jnp.maximum, corners)
    windows, backward = jax.vjp(pool_windows, images)
    chosen = (windows == largest[:, :, None, :, None]).astype(images.dtype)
    share = cotangent / sum((each == largest).astype(images.dtype) for each in corners)
    return backward(share[:, :, None, :, None] * chosen)


max_pool.defvjp(lambda images: (max_pool(images), images), max_pool_backward)


def window_corners(images: jax.Array) -> list[jax.Array]:
    """The four pixels of each 2x2 window: `[batch, rows, columns, channels]`."""
    windows = pool_windows(images)
    return [windows[:, :, row, :, column] for row in range(2) for column in range(2)]


def pool_windows(images: jax.Array) -> jax.Array:
    """The 2x2 windows: `[batch, height / 2, 2, width / 2, 2, channels]`."""
    batch, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(batch, height // 2, 2, width // 2, 2, channels)
