"""Convolutional network: two convolutions with pooling, then two dense layers."""

from functools import partial
from typing import ClassVar

import jax
from flax import nnx

from src.models.architecture import Architecture, Model
from src.models.dense import Dense
from src.models.dropout import Dropout
from src.models.microbatch import in_slices
from src.models.normalize import Normalize
from src.models.pooling import Pool, relu_average_pool, relu_max_pool

FILTERS = 32, 64


class CNN(Model):
    """Twice 3x3 convolution, relu, 2x2 average pooling; then dense, relu, dense."""

    smallest_image = 4  # two poolings leave one pixel
    default_hidden: ClassVar[int] = 256

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs) -> None:
        height, width, channels = architecture.image_shape
        self.normalize = Normalize.of(architecture)
        first, second = FILTERS
        conv = partial(nnx.Conv, kernel_size=(3, 3))
        self.conv1 = conv(channels, first, rngs=rngs)
        self.conv2 = conv(first, second, rngs=rngs)
        self.pool: Pool = relu_average_pool
        # 'SAME' padding keeps the size. Each pooling halves it and drops an odd edge.
        pixels = (height // 4) * (width // 4)
        hidden = architecture.hidden or self.default_hidden
        self.dense = Dense(pixels * second, hidden, rngs=rngs)
        self.dropout = Dropout(architecture.dropout)
        self.output = nnx.Linear(hidden, architecture.classes, rngs=rngs)

    def __call__(self, images: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits `[batch, classes]` of uint8 `[batch, height, width, channels]`."""
        return self.classify(in_slices(self.features, self.normalize(images)), rngs)

    def features(self, pixels: jax.Array) -> jax.Array:
        """Float32 `[batch, height // 4, width // 4, 64]` of pixels in [0, 1]."""
        return self.pool(self.convolve(pixels))

    def convolve(self, pixels: jax.Array) -> jax.Array:
        """Float32 `[batch, height // 2, width // 2, 64]`, before relu and pooling."""
        return self.conv2(self.pool(self.conv1(pixels)))

    def classify(self, features: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """Logits `[batch, classes]` of `features`."""
        hidden = nnx.relu(self.dense(features.reshape(features.shape[0], -1)))
        hidden = self.dropout(hidden, deterministic=rngs is None, rngs=rngs)
        return self.output(hidden)

    def feature_map(self, images: jax.Array) -> jax.Array:
        """What `convolve` returns: it has four times as many places as `features`."""
        return self.convolve(self.normalize(images))

    def from_feature_map(
        self, feature_map: jax.Array, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Logits `[batch, classes]` of what `convolve` returns."""
        return self.classify(self.pool(feature_map), rngs)


class MaxPoolCNN(CNN):
    """`CNN` with max pooling and, by default, a narrower dense layer."""

    default_hidden: ClassVar[int] = 128

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs) -> None:
        super().__init__(architecture, rngs)
        self.pool = relu_max_pool
