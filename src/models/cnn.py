"""Convolutional network: two convolutions with pooling, then two dense layers."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import jax
from flax import nnx

from src.models.architecture import Architecture, Model
from src.models.convolution import average_pool, fast_convolution, max_pool
from src.models.dropout import Dropout
from src.models.fused_block import convolve_relu_pool
from src.models.microbatch import in_slices
from src.models.normalize import Normalize

FILTERS = 32, 64


class CNN(Model):
    """Twice 3x3 convolution, relu, 2x2 average pooling; then dense, relu, dense."""

    smallest_image = 4  # two poolings leave one pixel
    default_hidden: ClassVar[int] = 256

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs) -> None:
        height, width, channels = architecture.image_shape
        self.normalize = Normalize.of(architecture)
        first, second = FILTERS
        conv = partial(
            nnx.Conv, kernel_size=(3, 3), conv_general_dilated=fast_convolution
        )
        self.conv1 = conv(channels, first, rngs=rngs)
        self.conv2 = conv(first, second, rngs=rngs)
        self.pool: Callable[[jax.Array], jax.Array] = average_pool
        # 'SAME' padding keeps the size. Each pooling halves it and drops an odd edge.
        pixels = (height // 4) * (width // 4)
        hidden = architecture.hidden or self.default_hidden
        self.dense = nnx.Linear(pixels * second, hidden, rngs=rngs)
        self.dropout = Dropout(architecture.dropout)
        self.output = nnx.Linear(hidden, architecture.classes, rngs=rngs)

    def __call__(self, images: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits `[batch, classes]` of uint8 `[batch, height, width, channels]`."""
        hidden = in_slices(self.features, self.normalize(images))
        hidden = nnx.relu(self.dense(hidden.reshape(images.shape[0], -1)))
        hidden = self.dropout(hidden, deterministic=rngs is None, rngs=rngs)
        return self.output(hidden)

    def features(self, pixels: jax.Array) -> jax.Array:
        """Float32 `[batch, height // 4, width // 4, 64]` of pixels in [0, 1]."""
        hidden = convolve_relu_pool(self.conv1, pixels, self.pool)
        return convolve_relu_pool(self.conv2, hidden, self.pool)


class MaxPoolCNN(CNN):
    """`CNN` with max pooling and, by default, a narrower dense layer."""

    default_hidden: ClassVar[int] = 128

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs) -> None:
        super().__init__(architecture, rngs)
        self.pool = max_pool
