"""One trial of a search: a training run without files, scored on validation."""

from collections.abc import Iterator

from src.config.params import Params
from src.data.prepared import Manifest
from src.errors import DataError, ParameterError
from src.signals import raise_if_stopped
from src.training.data import count_steps, load_train_data
from src.training.events import EpochEnd, EpochResult
from src.training.initial_weights import load_initial_weights
from src.training.loop import fit
from src.training.state import build_state, choose_architecture, normalize_pixels


def train_epochs(params: Params, manifest: Manifest) -> Iterator[EpochResult]:
    """Trains as `stages.train` does, to the same bits; yields each epoch's scores.

    Args:
        params: of the trial.
        manifest: of the data.

    Raises:
        ParameterError: the parameters do not fit the data or each other.
        DivergedError: a loss or a gradient is not finite.
        DataError: a split is missing, changed or malformed.
    """
    architecture = choose_architecture(params, manifest)
    try:
        initial = load_initial_weights(params, architecture, manifest.class_names)
    except DataError as error:  # of this trial's `init_from`
        raise ParameterError(str(error)) from None
    data = load_train_data(manifest, params)
    architecture = normalize_pixels(architecture, params, data.train, initial)
    steps = count_steps(len(data.train), params.batch_size)
    graphdef, state = build_state(params, architecture, steps, initial)
    for event in fit(state, graphdef, data, params):
        raise_if_stopped()
        if isinstance(event, EpochEnd):
            yield event.result
