"""Two convolutions with pooling, then two dense layers."""

from functools import partial

import jax
from flax import nnx

from src.models.architecture import Architecture
from src.models.convolution import average_pool, convolve, max_pool
from src.models.dropout import Dropout
from src.models.fused_block import convolve_relu_pool
from src.models.layer_list import Layer
from src.models.microbatch import in_slices
from src.models.normalize import as_floats

FILTERS = 32, 64


class CNN(nnx.Module):
    """Twice 3x3 convolution, relu and 2x2 pooling; then dense, relu, dense.

    `cnn` pools by the average, `cnn_max` by the maximum.
    """

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs) -> None:
        height, width, channels = architecture.image_shape
        first, second = FILTERS
        conv = partial(nnx.Conv, kernel_size=(3, 3), conv_general_dilated=convolve)
        self.conv1 = conv(channels, first, rngs=rngs)
        self.conv2 = conv(first, second, rngs=rngs)
        self.pool = max_pool if architecture.model == "cnn_max" else average_pool
        # 'SAME' keeps the size; each pooling halves it, an odd edge is lost.
        pixels = (height // 4) * (width // 4)
        self.dense = nnx.Linear(pixels * second, architecture.hidden, rngs=rngs)
        self.dropout = Dropout(architecture.dropout)
        self.output = nnx.Linear(architecture.hidden, architecture.classes, rngs=rngs)

    def __call__(self, images: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits `[batch, classes]` of uint8 `[batch, height, width, channels]`.

        `rngs` gives the dropout its key; without it nothing is dropped.
        """
        hidden = in_slices(self.features, as_floats(images))
        hidden = nnx.relu(self.dense(hidden.reshape(images.shape[0], -1)))
        hidden = self.dropout(hidden, deterministic=rngs is None, rngs=rngs)
        return self.output(hidden)

    def features(self, pixels: jax.Array) -> jax.Array:
        """`[batch, height / 4, width / 4, filters]` of float pixels."""
        hidden = convolve_relu_pool(self.conv1, pixels, self.pool)
        return convolve_relu_pool(self.conv2, hidden, self.pool)

    def layers(self) -> list[Layer]:
        """The same for other runtimes, which drop nothing."""
        pool = Layer("max_pool" if self.pool is max_pool else "average_pool")
        return [
            *(Layer("convolve", "conv1"), Layer("relu"), pool),
            *(Layer("convolve", "conv2"), Layer("relu"), pool),
            Layer("flatten"),
            *(Layer("dense", "dense"), Layer("relu"), Layer("dense", "output")),
        ]
