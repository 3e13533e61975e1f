"""Convolution and pooling in a form that XLA compiles well inside a loop on CPU.

Inside `lax.fori_loop` XLA's CPU backend has only a plain nest of loops for
`lax.conv_general_dilated` (about 20 times slower than outside), while its matrix
product stays fast. So on CPU a convolution is patches times matrix ("im2col",
Chellapilla et al. 2006), and a pooling is a reshape. GPUs and TPUs keep lax's own.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Padding = str | Sequence[tuple[int, int]]


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Padding,
    **options: Any,  # noqa: ANN401 - lax's own, handed on
) -> jax.Array:
    """Stands in for `lax.conv_general_dilated` as the argument of `nnx.Conv`.

    Args:
        images: `[batch, height, width, channels]`.
        kernel: `[rows, columns, channels, filters]`.
        strides: of rows and columns.
        padding: 'SAME', 'VALID' or pixels before and after each of the two.
        options: of `lax.conv_general_dilated`; patches are used where they say nothing
            but the layout.
    """

    def by_lax(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(images, kernel, strides, padding, **options)

    def by_patches(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolve_by_patches(images, kernel, strides, padding)

    if tuple(strides) != (1, 1) or not is_plain(options):
        return by_lax(images, kernel)
    return lax.platform_dependent(images, kernel, cpu=by_patches, default=by_lax)


def is_plain(options: dict[str, Any]) -> bool:
    """Whether the options describe an undilated, ungrouped convolution."""
    return (
        tuple(options.get("lhs_dilation") or (1, 1)) == (1, 1)
        and tuple(options.get("rhs_dilation") or (1, 1)) == (1, 1)
        and options.get("feature_group_count", 1) == 1
    )


def convolve_by_patches(
    images: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding
) -> jax.Array:
    """The convolution as one matrix product; arguments as of `convolve`."""
    rows, columns, channels, filters = kernel.shape
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(
            images.shape[1:3], (rows, columns), strides, padding
        )
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


def average_pool(images: jax.Array) -> jax.Array:
    """Mean of each 2x2 block; an odd last row or column is dropped."""
    return blocks(images).mean((2, 4))


def max_pool(images: jax.Array) -> jax.Array:
    """Largest of each 2x2 block; an odd last row or column is dropped."""
    return blocks(images).max((2, 4))


def blocks(images: jax.Array) -> jax.Array:
    """The 2x2 blocks: `[batch, height / 2, 2, width / 2, 2, channels]`."""
    batch, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(batch, height // 2, 2, width // 2, 2, channels)
