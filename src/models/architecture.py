"""A network apart from its weights: its settings, and what every model must offer."""

from dataclasses import dataclass
from typing import ClassVar

import jax
from flax import nnx

from src.config.names import ModelName


@dataclass(frozen=True)
class Architecture:
    """The settings that rebuild a network; stored in `models/model.json`."""

    model: ModelName
    hidden: int  # units of the dense layer, >= 1
    dropout: float  # rate, in [0, 1)
    image_shape: tuple[int, int, int]  # height, width, channels
    classes: int


class Model(nnx.Module):
    """Base class of the networks in this room, one file each.

    A new model subclasses it and gets a line in `MODELS` of `src/models/build.py`.
    """

    smallest_image: ClassVar[int]  # pixels a side
    default_hidden: ClassVar[int]  # units, where `hidden` in params.yaml is empty

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs) -> None:
        """Draws the initial weights from `rngs.params`."""
        raise NotImplementedError

    def __call__(self, images: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits, float `[batch, classes]`.

        Args:
            images: uint8 `[batch, height, width, channels]`.
            rngs: its `dropout` stream draws the dropout mask; None: no dropout.
        """
        raise NotImplementedError
