"""`calibrate`: temperature scaling on validation, folded into the output layer.

The output layer's weights are divided by the temperature, so evaluate and every
exported file have it without further code. All logits shrink or grow by one
factor: the most likely class stays the same.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from src.errors import ParameterError
from src.evaluation.metrics import CALIBRATION_BINS, expected_calibration_error
from src.evaluation.temperature import fit_temperature, log_softmax
from src.models.architecture import Architecture, Weights
from src.models.build import MODELS
from src.models.check import place
from src.models.checkpoint import with_weights
from src.sharding import shard_state
from src.training.batches import BatchBlock, BatchSource
from src.training.gradients import data_parallel_forward
from src.training.initial_weights import head_of, network_of, shapes_of
from src.training.validation import padded_batches


class Calibration(NamedTuple):
    """A network whose probabilities were calibrated."""

    weights: Weights
    temperature: float
    scores: dict[str, float]  # of validation, before and after
    warning: str  # "" for none


def calibrate(
    weights: Weights, architecture: Architecture, head: list[str], split: BatchSource
) -> Calibration:
    """Fits a temperature and divides the output layer by it.

    Every process takes part, and gets the same result.

    Args:
        weights: of the network, by path.
        architecture: of the network.
        head: the output layer's weights, see `find_output_layer`.
        split: the validation split.
    """
    before = logits_of(weights, architecture, split)
    temperature, warning = fit_temperature(before, split.labels)
    divided = divide(weights, head, temperature)
    after = logits_of(divided, architecture, split)
    scores = {"temperature": temperature}
    for moment, logits in (("before", before), ("after", after)):
        log_probabilities = log_softmax(logits)
        chosen = log_probabilities[np.arange(len(split)), split.labels]
        scores[f"loss_{moment}"] = -float(chosen.mean())
        scores[f"calibration_error_{moment}"] = expected_calibration_error(
            np.exp(log_probabilities), split.labels, bins=CALIBRATION_BINS
        )
    return Calibration(divided, temperature, scores, warning)


def find_output_layer(
    weights: Weights, architecture: Architecture, split: BatchSource
) -> list[str]:
    """The names of the weights that scale the logits: halves of them halve the logits.

    Dividing by 2 is exact, so this is compared to the bit, on one batch.

    Args:
        weights: of the network, by path.
        architecture: of the network.
        split: gives the batch.

    Raises:
        ParameterError: the weights whose shape depends on the number of classes do not
            scale the logits.
    """
    names = sorted(head_of(architecture, shapes_of(architecture)))
    rng = np.random.default_rng(0)  # drawn, because an untrained head may be zero
    drawn = {
        name: rng.normal(size=weights[name].shape).astype(weights[name].dtype)
        for name in names
    }
    whole, half = (
        logits_of({**weights, **head}, architecture, split, batches=1)
        for head in (drawn, divide(drawn, names, 2.0))
    )
    if not (names and np.array_equal(whole, 2 * half)):
        raise ParameterError(
            f"params.yaml: calibrate: expected logits that the weights of the output "
            f"layer scale, found that {', '.join(names) or 'no weight'} of "
            f"{place(MODELS[architecture.model])} does not. End __call__ with the "
            "output of nnx.Linear(..., architecture.classes), or set calibrate: false."
        )
    return names


def divide(weights: Weights, names: list[str], divisor: float) -> Weights:
    """The weights, some of them divided in double precision and rounded once."""
    divided = {
        name: (weights[name].astype(np.float64) / divisor).astype(weights[name].dtype)
        for name in names
    }
    return {**weights, **divided}


def logits_of(
    weights: Weights,
    architecture: Architecture,
    split: BatchSource,
    batches: int | None = None,
) -> np.ndarray:
    """Logits of a split, float32 `[examples, classes]`, computed on all devices.

    Args:
        weights: of the network, by path.
        architecture: of the network.
        split: the examples.
        batches: how many batches; None: all.
    """
    model = with_weights(network_of(architecture), weights)
    model.eval()  # type: ignore[no-untyped-call]
    graphdef, state = nnx.split(model)
    state = shard_state(state)
    found = [
        np.asarray(batch_logits(state, block, index, graphdef=graphdef))
        for block in split.blocks(padded_batches(len(split))[:batches])
        for index in range(block.start, block.stop)
    ]
    return np.concatenate(found)[: len(split)]


@partial(jax.jit, static_argnames="graphdef")
def batch_logits(
    state: nnx.State, block: BatchBlock, index: int, *, graphdef: nnx.GraphDef[Any]
) -> jax.Array:
    """Logits `[batch, classes]` of one batch of a block."""
    images = block.examples.images[block.batch_indices[index]]
    return data_parallel_forward(nnx.merge(graphdef, state), images)
