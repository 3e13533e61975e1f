"""Small networks, and a training run without files."""

from src.config.load import load_params
from src.config.params import Params
from src.models.architecture import Architecture
from src.models.checkpoint import weights_of
from src.training.batches import DeviceBatches
from src.training.data import TrainData, count_steps
from src.training.events import EpochEnd, LogRow
from src.training.loop import fit
from src.training.state import build_state
from tests.helpers.examples import patterned
from tests.helpers.imports import ROOT

TINY = Architecture("mlp", hidden=5, dropout=0.0, image_shape=(8, 8, 1), classes=3)
SMALL = Architecture("mlp", hidden=16, dropout=0.3, image_shape=(8, 8, 1), classes=3)


def small_params() -> Params:
    """The default parameters, changed to a short run of a small network."""
    changes = {"model": "mlp", "hidden": 16, "epochs": 3, "batch_size": 16, "lr": 0.002}
    return load_params(ROOT / "params.yaml").model_copy(update=changes)


def data(source=DeviceBatches):
    splits = patterned(100, seed=1), patterned(30, seed=2)
    return TrainData(*map(source, splits), classes=3)


def run(params, source=DeviceBatches, **changes):
    """All events, the epochs with their weights in place of the model.

    Args:
        params: the parameters.
        source: makes the batches of a split.
        changes: parameters with other values.
    """
    params = params.model_copy(update=changes)
    graphdef, state = build_state(params, SMALL, count_steps(100, params.batch_size))
    events = list(fit_with_weights(state, graphdef, data(source), params))
    steps = [event for event in events if isinstance(event, LogRow)]
    return steps, [event for event in events if isinstance(event, tuple)]


def fit_with_weights(state, graphdef, splits, params):
    for event in fit(state, graphdef, splits, params):
        is_epoch = isinstance(event, EpochEnd)
        yield (event.result, weights_of(event.model)) if is_epoch else event
