"""A network apart from its weights: its settings, and what every model must offer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.config.names import ModelName

Weights = Mapping[str, np.ndarray]  # by path in the network, as in "conv1.kernel"


@dataclass(frozen=True)
class Architecture:
    """The settings that rebuild a network; stored in `models/model.json`."""

    model: ModelName
    hidden: int | None  # units of the dense layer, >= 1; None: the model has none
    dropout: float  # rate, in [0, 1)
    image_shape: tuple[int, int, int]  # height, width, channels
    classes: int
    # None, here and below: the model has no such setting.
    filters: int | None = None  # of the first stage, >= 1
    blocks: int | None = None  # residual blocks per stage, >= 1
    # Per channel, of pixels in [0, 1]; None: pixels are not normalized.
    pixel_mean: tuple[float, ...] | None = None
    pixel_deviation: tuple[float, ...] | None = None


class Model(nnx.Module):
    """Base class of the networks in this room, one file each.

    A new model subclasses it and gets a line in `MODELS` of `src/models/build.py`.
    """

    smallest_image: ClassVar[int] = 1  # pixels a side
    grey_channels: ClassVar[int] = 1  # that the network makes of a grey image
    # Used where params.yaml is empty; None: the model has no such setting.
    default_hidden: ClassVar[int | None] = None  # units
    default_filters: ClassVar[int | None] = None
    default_blocks: ClassVar[int | None] = None
    default_normalize: ClassVar[bool] = False

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs) -> None:
        """Draws the initial weights from `rngs.params`."""

    def __call__(self, images: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits, float `[batch, classes]`.

        Args:
            images: uint8 `[batch, height, width, channels]`.
            rngs: its `dropout` stream draws the dropout mask; None: no dropout.
        """
        raise NotImplementedError(f"{type(self).__qualname__}.__call__ is missing")

    def feature_map(self, images: jax.Array) -> jax.Array:
        """The last feature map, `[batch, rows, columns, channels]`, for heat maps.

        Here the pixels: right for a network without one. A model that overrides it
        overrides `from_feature_map` too.
        """
        return images.astype(jnp.float32)

    def from_feature_map(
        self, feature_map: jax.Array, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """The logits: `from_feature_map(feature_map(images), rngs)` is the network."""
        return self(feature_map, rngs)
