"""Convolution of any size and stride whose gradients are fast inside a loop on CPU.

XLA's CPU compiler rewrites convolutions to the form that its fast kernels take, NHWC
times HWIO, only outside of loops. The gradients that JAX derives are in other forms, so
inside `lax.while_loop` plain nested loops compute them: up to 50 times slower. Here
they are written in the fast form:

- to the images: the output's gradient convolved with the flipped kernel. A stride puts
  zeros between the gradient's pixels first.
- to the kernel: the images convolved with the output's gradient, where channels and
  batch change places. With a stride, one matrix product for each pixel of the kernel.

From 32 channels on, 3x3 kernels are faster by the tiles of `convolution.py`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from src.models.convolution import fast_convolution, is_plain

Pads = tuple[tuple[int, int], ...]
Strides = tuple[int, ...]

LAYOUT = ("NHWC", "HWIO", "NHWC")
MIN_TILED_CHANNELS = 32  # in and out: measured, see docs/explanation/measurements.md


def loop_convolution(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,  # noqa: ANN401 - passed on to lax
) -> jax.Array:
    """Replaces `lax.conv_general_dilated` as an argument of `nnx.Conv`.

    Args:
        images: `[batch, height, width, channels]`.
        kernel: `[rows, columns, channels, filters]`.
        strides: of rows and columns.
        padding: 'SAME', 'VALID', or pixels before and after, for rows and columns.
        options: of `lax.conv_general_dilated`; lax handles dilation and groups.

    Returns:
        `[batch, height, width, filters]`, sized by strides and padding.
    """

    def by_lax(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(images, kernel, strides, padding, **options)

    def by_forms(images: jax.Array, kernel: jax.Array) -> jax.Array:
        pads = padding
        if isinstance(pads, str):
            size, window = images.shape[1:3], kernel.shape[:2]
            pads = lax.padtype_to_pads(size, window, strides, pads)
        return convolve(images, kernel, tuple(strides), tuple(map(tuple, pads)))

    if not is_plain(options):
        return by_lax(images, kernel)
    if tuple(strides) == (1, 1) and min(kernel.shape[2:]) >= MIN_TILED_CHANNELS:
        return fast_convolution(images, kernel, strides, padding, **options)
    return lax.platform_dependent(images, kernel, cpu=by_forms, default=by_lax)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(
    images: jax.Array, kernel: jax.Array, strides: Strides, pads: Pads
) -> jax.Array:
    """`lax.conv_general_dilated` with the gradients of this module."""
    return lax.conv_general_dilated(
        images, kernel, strides, pads, dimension_numbers=LAYOUT
    )


def convolve_forward(
    images: jax.Array, kernel: jax.Array, strides: Strides, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """The outputs, and the residuals: images and kernel."""
    return convolve(images, kernel, strides, pads), (images, kernel)


def convolve_backward(
    strides: Strides,
    pads: Pads,
    residuals: tuple[jax.Array, jax.Array],
    cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The gradients to images and kernel."""
    images, kernel = residuals
    return (
        images_gradient(cotangent, kernel, images.shape, strides, pads),
        kernel_gradient(images, cotangent, kernel.shape, strides, pads),
    )


convolve.defvjp(convolve_forward, convolve_backward)


def images_gradient(
    cotangent: jax.Array,
    kernel: jax.Array,
    shape: tuple[int, ...],
    strides: Strides,
    pads: Pads,
) -> jax.Array:
    """The gradient to images of `shape`."""
    sides = []
    for axis in range(2):
        size, length = kernel.shape[axis], cotangent.shape[axis + 1]
        spread = (length - 1) * strides[axis] + 1
        before = size - 1 - pads[axis][0]
        # Input pixels that no window reaches have a gradient of zero.
        after = shape[axis + 1] + size - 1 - before - spread
        sides.append((before, after, strides[axis] - 1))
    zero = jnp.zeros((), cotangent.dtype)
    spaced = lax.pad(cotangent, zero, ((0, 0, 0), *sides, (0, 0, 0)))
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    return lax.conv_general_dilated(
        spaced, flipped, (1, 1), "VALID", dimension_numbers=LAYOUT
    )


def kernel_gradient(
    images: jax.Array,
    cotangent: jax.Array,
    shape: tuple[int, ...],
    strides: Strides,
    pads: Pads,
) -> jax.Array:
    """The gradient to a kernel of `shape`."""
    rows, columns, channels, filters = shape
    if strides == (1, 1):
        by_channel = images.transpose(3, 1, 2, 0)
        by_pixel = cotangent.transpose(1, 2, 0, 3)
        grad = lax.conv_general_dilated(
            by_channel, by_pixel, (1, 1), pads, dimension_numbers=LAYOUT
        )
        return grad.transpose(1, 2, 0, 3)
    _, height, width, _ = cotangent.shape
    padded = jnp.pad(images, ((0, 0), *pads, (0, 0)))
    flat = cotangent.reshape(-1, filters)
    down, right = strides

    def tap(row: int, column: int) -> jax.Array:
        below = padded[:, row : row + (height - 1) * down + 1 : down]
        seen = below[:, :, column : column + (width - 1) * right + 1 : right]
        return seen.reshape(-1, channels).T @ flat

    taps = [tap(row, column) for row in range(rows) for column in range(columns)]
    return jnp.stack(taps).reshape(shape)
