"""Convolution whose gradients are fast inside a loop on CPU.

XLA's CPU compiler rewrites convolutions to the form that its fast kernels take, NHWC
times HWIO, only outside of loops. The gradients that JAX derives are in other forms, so
inside `lax.while_loop` plain nested loops compute them, 70 times slower. Here they are
written in the fast form:

- to the images: the output's gradient convolved with the flipped kernel. A stride puts
  zeros between the gradient's pixels first.
- to the kernel: the images convolved with the output's gradient, where channels and
  batch change places. With a stride, one matrix product for each pixel of the kernel.
"""

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from src.models.winograd import LAYOUT, is_faster, winograd_convolution

BLOCK_BYTES = 2**20  # of the output's gradient; larger blocks leave the caches
MAX_BLOCKS = 8  # each is compiled apart


class Window(NamedTuple):
    """How a kernel moves: steps, and pixels of zeros before and after each axis."""

    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]


def loop_convolution(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,  # noqa: ANN401 - passed on to lax
) -> jax.Array:
    """Replaces `lax.conv_general_dilated` as an argument of `nnx.Conv`.

    Args:
        images: `[batch, height, width, channels]`; lax handles other ranks.
        kernel: `[rows, columns, channels / groups, filters]`.
        strides: of rows and columns.
        padding: 'SAME', 'VALID', or pixels before and after, for rows and columns.
        options: of `lax.conv_general_dilated`.

    Returns:
        `[batch, height, width, filters]`, sized by strides and padding.
    """
    if images.ndim != 4 or jax.default_backend() != "cpu":
        return lax.conv_general_dilated(images, kernel, strides, padding, **options)
    kernel = spread(kernel, (0, 1), options.get("rhs_dilation"))
    if isinstance(padding, str):
        sizes = images.shape[1:3], kernel.shape[:2]
        padding = lax.padtype_to_pads(*sizes, strides, padding)
    images = spread(images, (1, 2), options.get("lhs_dilation"))
    window = Window(tuple(strides), tuple((before, after) for before, after in padding))
    groups, filters = options.get("feature_group_count", 1), kernel.shape[-1]
    if groups == 1:
        return convolve(images, kernel, window)
    if groups == images.shape[-1]:
        images = jnp.repeat(images, filters // groups, axis=-1)
        return convolve_channels(images, kernel, window)
    parts = jnp.split(images, groups, axis=-1), jnp.split(kernel, groups, axis=-1)
    outputs = [convolve(*part, window) for part in zip(*parts, strict=True)]
    return jnp.concatenate(outputs, axis=-1)


def spread(
    array: jax.Array, axes: tuple[int, ...], dilation: Sequence[int] | None
) -> jax.Array:
    """The array with `dilation - 1` zeros between neighbours along each axis."""
    pads = [(0, 0, 0)] * array.ndim
    for axis, step in zip(axes, dilation or (1, 1), strict=True):
        pads[axis] = (0, 0, step - 1)
    return lax.pad(array, jnp.zeros((), array.dtype), pads)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """`lax.conv_general_dilated` with the gradients of this module."""
    return fast_convolution(images, kernel, window)


def convolve_backward(
    window: Window, residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The gradients to images and kernel."""
    images, kernel = residuals
    return (
        images_gradient(cotangent, kernel, images.shape, window),
        kernel_gradient(images, cotangent, kernel.shape, window),
    )


convolve.defvjp(
    lambda images, kernel, window: (convolve(images, kernel, window), (images, kernel)),
    convolve_backward,
)


def images_gradient(
    cotangent: jax.Array, kernel: jax.Array, shape: tuple[int, ...], window: Window
) -> jax.Array:
    """The gradient to images of `shape`."""
    spaced = spread(cotangent, (1, 2), window.strides)
    sides = []
    for axis in range(2):
        before = window.pads[axis][0]
        # Input pixels that no window reaches have a gradient of zero.
        after = shape[axis + 1] + before - spaced.shape[axis + 1]
        sides.append((kernel.shape[axis] - 1 - before, after))
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    return fast_convolution(spaced, flipped, Window((1, 1), tuple(sides)))


def kernel_gradient(
    images: jax.Array, cotangent: jax.Array, shape: tuple[int, ...], window: Window
) -> jax.Array:
    """The gradient to a kernel of `shape`."""
    *size, channels, filters = shape
    if window.strides == (1, 1):
        count = min(len(images), MAX_BLOCKS, -(-cotangent.nbytes // BLOCK_BYTES))
        step = -(-len(images) // count)
        blocks = [
            fast_convolution(
                images[start : start + step].transpose(3, 1, 2, 0),
                cotangent[start : start + step].transpose(1, 2, 0, 3),
                window,
            )
            for start in range(0, len(images), step)
        ]
        return reduce(jnp.add, blocks).transpose(1, 2, 0, 3)
    flat, seen = cotangent.reshape(-1, filters), pixels_seen(images, size, window)
    taps = [pixels.reshape(-1, channels).T @ flat for pixels in seen]
    return jnp.stack(taps).reshape(shape)


def fast_convolution(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """`lax.conv_general_dilated`, by `winograd_convolution` where that is faster.

    An odd number of channels gets one of zeros more: XLA's fast kernel takes 3 channels
    four times as long as 4; only 1 is fast.
    """
    if images.shape[-1] > 1 and images.shape[-1] % 2:
        images = jnp.pad(images, ((0, 0), (0, 0), (0, 0), (0, 1)))
        kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 0)))
    if window.strides == (1, 1) and is_faster(images, kernel, window.pads):
        return winograd_convolution(images, kernel, window.pads)
    return lax.conv_general_dilated(images, kernel, *window, dimension_numbers=LAYOUT)


def convolve_channels(
    images: jax.Array, kernel: jax.Array, window: Window
) -> jax.Array:
    """Depthwise convolution: each channel of `[rows, columns, 1, channels]` apart."""
    seen = pixels_seen(images, kernel.shape[:2], window)
    weights = kernel.reshape(-1, 1, 1, 1, kernel.shape[-1])
    products = (pixels * weight for pixels, weight in zip(seen, weights, strict=True))
    return reduce(jnp.add, products)


def pixels_seen(
    images: jax.Array, size: Sequence[int], window: Window
) -> list[jax.Array]:
    """For each pixel of a kernel of this size, the images' pixels that it meets."""
    padded = jnp.pad(images, ((0, 0), *window.pads, (0, 0)))
    _, height, width, _ = padded.shape
    down, right = window.strides
    rows, columns = height - size[0] + 1, width - size[1] + 1
    return [
        padded[:, row : row + rows : down, column : column + columns : right]
        for row in range(size[0])
        for column in range(size[1])
    ]
