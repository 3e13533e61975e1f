"""The network as the converters see it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from flax import nnx

from src.errors import one_line
from src.export.from_onnx import graph_of
from src.export.graph import Graph, UnsupportedError
from src.export.jax_to_onnx import convert_by_jax2onnx
from src.export.quiet import quiet
from src.export.rounding import sum_lengths
from src.models.checkpoint import TrainedModel
from src.models.plain import plain_model


class Network(NamedTuple):
    """A trained network in the forms that formats are made of."""

    trained: TrainedModel
    # From images in [0, 255], `[batch, height, width, channels]`, uint8 or float32.
    probabilities: Callable[[jax.Array], jax.Array]
    graph: Graph | None  # None: no operators stand for it
    unsupported: str  # the operation without an operator, "" if there is a graph
    sums: tuple[int, ...]  # see `sum_lengths`


def prepare_network(trained: TrainedModel) -> Network:
    """The network with plain operations, and its graph."""
    logits = plain_model(trained.model)
    shape = trained.record.architecture.image_shape

    def probabilities(images: jax.Array) -> jax.Array:
        return nnx.softmax(logits(images))

    graph, unsupported = None, ""
    try:
        with quiet():
            graph = graph_of(convert_by_jax2onnx(probabilities, shape))
    except UnsupportedError as error:
        unsupported = str(error)
    except Exception as error:  # noqa: BLE001 - jax2onnx raises any class
        kind = type(error).__name__
        unsupported = f"one that jax2onnx refuses ({kind}: {one_line(error)})"
    sums = sum_lengths(logits, shape)
    return Network(trained, probabilities, graph, unsupported, sums)
