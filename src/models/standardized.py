"""Convolution with scaled weight standardization, in place of batch normalization.

Source: Brock et al. 2021, arXiv:2101.08692, equation 1 and appendix A.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from src.models.loop_convolution import LAYOUT, loop_convolution

MIN_SQUARES = 1e-4  # of a filter's centred weights: where all are equal
# The factor after which a relu of standard normal numbers has variance one.
RELU_GAIN = math.sqrt(2 / (1 - 1 / math.pi))


def scaled_relu(values: jax.Array) -> jax.Array:
    """Relu that keeps the variance of standard normal inputs at one."""
    return nnx.relu(values) * RELU_GAIN


class StandardizedConv(nnx.Conv):
    """`nnx.Conv` whose kernel has mean 0 and variance gain / inputs for each filter.

    So its outputs have the variance of its inputs, without statistics of a batch: each
    image is treated alone. The gain is learned. For a trained network the kernel is a
    constant.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        size: int,
        *,
        stride: int = 1,
        rngs: nnx.Rngs,
    ) -> None:
        """Draws the weights; `size` is the kernel's, in pixels a side."""
        super().__init__(
            channels,
            filters,
            kernel_size=(size, size),
            strides=(stride, stride),
            kernel_init=nnx.initializers.normal(1 / math.sqrt(channels * size**2)),
            conv_general_dilated=loop_convolution,
            rngs=rngs,
        )
        self.gain = nnx.Param(jnp.ones(filters))

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """`[batch, height, width, filters]` of `[batch, height, width, channels]`."""
        kernel = self.standardized_kernel()
        inputs, kernel, bias = self.promote_dtype(
            (inputs, kernel, self.bias[...]), dtype=self.dtype
        )
        outputs = self.conv_general_dilated(
            inputs, kernel, self.strides, self.padding, dimension_numbers=LAYOUT
        )
        return outputs + bias.reshape(1, 1, 1, -1)

    def standardized_kernel(self) -> jax.Array:
        """The kernel that convolves: `[rows, columns, channels, filters]`."""
        kernel = self.kernel[...]
        centred = kernel - kernel.mean((0, 1, 2), keepdims=True)
        squares = (centred**2).sum((0, 1, 2), keepdims=True)  # variance times inputs
        gain = self.gain[...].reshape(1, 1, 1, -1)
        return centred * (lax.rsqrt(jnp.maximum(squares, MIN_SQUARES)) * gain)
