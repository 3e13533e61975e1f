"""The network as the converters see it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import jax
from flax import nnx

from src.export.faults import converter_error
from src.export.from_onnx import graph_of
from src.export.graph import Graph, UnsupportedError
from src.export.jax_to_onnx import convert_by_jax2onnx
from src.export.quiet import quiet
from src.models.checkpoint import TrainedModel
from src.models.plain import plain_model


@dataclass(frozen=True)
class Network:
    """A trained network in the forms that formats are made of."""

    trained: TrainedModel
    logits: Callable[[jax.Array], jax.Array]
    # From images in [0, 255], `[batch, height, width, channels]`, uint8 or float32.
    probabilities: Callable[[jax.Array], jax.Array]

    @cached_property
    def graph(self) -> Graph | str:
        """The graph, or the operation that has no operator."""
        shape = self.trained.record.architecture.image_shape
        with quiet():
            try:
                return graph_of(convert_by_jax2onnx(self.probabilities, shape))
            except UnsupportedError as error:
                return str(error)
            except Exception as error:  # noqa: BLE001 - jax2onnx raises any class
                return f"in jax2onnx {converter_error(error)}"


def plain_network(trained: TrainedModel) -> Network:
    """The network with plain operations."""
    logits = plain_model(trained.model)
    return Network(trained, logits, lambda images: nnx.softmax(logits(images)))
