"""The network as the converters see it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from src.export.faults import converter_error
from src.export.from_onnx import graph_of
from src.export.graph import Graph, UnsupportedError
from src.export.jax_to_onnx import convert_by_jax2onnx
from src.export.quiet import quiet
from src.export.rounding import logit_error
from src.models.checkpoint import TrainedModel
from src.models.plain import plain_model

MEASURED_IMAGES = 32  # for the sizes of the network's numbers


class Network(NamedTuple):
    """A trained network in the forms that formats are made of."""

    trained: TrainedModel
    # From images in [0, 255], `[batch, height, width, channels]`, uint8 or float32.
    probabilities: Callable[[jax.Array], jax.Array]
    graph: Graph | None  # None: no operators stand for it
    unsupported: str  # the operation without an operator, "" if there is a graph
    error: float  # of the logits by rounding, see `logit_error`


def prepare_network(trained: TrainedModel, images: np.ndarray) -> Network:
    """The network with plain operations, and its graph.

    Args:
        trained: the network.
        images: some training images, uint8 `[n, height, width, channels]`.
    """
    logits = plain_model(trained.model)
    shape = trained.record.architecture.image_shape

    def probabilities(images: jax.Array) -> jax.Array:
        return nnx.softmax(logits(images))

    graph, unsupported = None, ""
    with quiet():
        try:
            graph = graph_of(convert_by_jax2onnx(probabilities, shape))
        except UnsupportedError as error:
            unsupported = str(error)
        except Exception as error:  # noqa: BLE001 - jax2onnx raises any class
            unsupported = f"in jax2onnx {converter_error(error)}"
    rounding = logit_error(logits, images[:MEASURED_IMAGES])
    return Network(trained, probabilities, graph, unsupported, rounding)
