"""Cross-validation: each training example is predicted by a network that never saw it.

A network is trained on all folds but one, as the train stage does, and calibrated if
`calibrate` is set. It predicts the examples of the fold that it did not see. Its best
epoch is chosen on the validation split, which is in no fold. The test split is not
read.

What `init_from` names was trained before, perhaps on these examples. Nobody can tell.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from src import paths
from src.config.params import Params
from src.data.examples import Examples, Origin, select, select_images
from src.data.files_csv import PREPARE_AGAIN, read_origins
from src.data.prepared import Manifest, open_split
from src.errors import DataError, ParameterError
from src.evaluation.predict import predict
from src.models.architecture import Architecture, Weights
from src.models.checkpoint import trained_network, weights_of
from src.resume.snapshots import TrainingProgress
from src.sharding import on_all_devices
from src.signals import raise_if_stopped
from src.training.batches import SelectedBatches, build_batches
from src.training.calibration import calibrate, find_output_layer
from src.training.data import TrainData, chosen_rows, count_steps
from src.training.early_stopping import build_early_stopping
from src.training.events import EpochEnd, SavePoint
from src.training.initial_weights import InitialWeights, load_initial_weights
from src.training.loop import fit
from src.training.state import (
    build_state,
    choose_architecture,
    eval_model,
    normalize_pixels,
)


class TrainingExamples(NamedTuple):
    """The examples that are divided into folds: all of train, or `limit_examples`."""

    examples: Examples  # images may be `LazyImages`
    rows: np.ndarray  # int64 [n], their rows in the training split, rising
    origins: list[Origin]  # [n], where they came from


class PredictedFold(NamedTuple):
    """A fold, predicted by a network that was trained on the others."""

    number: int  # from 1
    members: np.ndarray  # int64 [m], indices of its examples, rising
    log_probabilities: np.ndarray  # float32 [m, classes]
    best_epoch: int  # whose weights predicted; from 1
    epochs: int  # that were trained


def load_training_examples(manifest: Manifest, params: Params) -> TrainingExamples:
    """Opens the training split.

    Raises:
        ParameterError: `overfit_batches` is set: it validates on training examples.
        DataError: the split or files.csv is missing, changed or malformed.
    """
    if params.overfit_batches:
        raise ParameterError(
            "params.yaml: overfit_batches: expected an empty value for "
            f"cross-validation, found {params.overfit_batches}. Remove it."
        )
    train = open_split("train", manifest)
    rows = chosen_rows(len(train.labels), params)
    origins = read_origins("train")
    if len(origins) != len(train.labels):
        raise DataError(
            f"{paths.FILES}: expected the {len(train.labels)} images of train.npz, "
            f"found {len(origins)}. {PREPARE_AGAIN}"
        )
    return TrainingExamples(
        select(train, rows), rows, [origins[row] for row in rows.tolist()]
    )


def cross_validate(
    train: Examples, folds: np.ndarray, manifest: Manifest, params: Params
) -> Iterator[PredictedFold]:
    """Trains without each fold in turn, and predicts it.

    All folds share the images on the device, or on disk, and the compiled code.

    Args:
        train: the examples.
        folds: int `[n]`, the fold of each, from 1.
        manifest: of the data.
        params: the parameters of the run.

    Raises:
        ParameterError: the parameters do not fit the data.
        DataError: the validation split or the initial weights are missing or damaged.
        DivergedError: a loss, gradient or prediction is not finite.
    """
    architecture = choose_architecture(params, manifest)
    initial = load_initial_weights(params, architecture, manifest.class_names)
    with on_all_devices(params):
        images = build_batches(train, params)
        validation = build_batches(open_split("validation", manifest), params)

    for number in range(1, int(folds.max()) + 1):
        others = SelectedBatches(images, np.flatnonzero(folds != number))
        data = TrainData(others, validation, architecture.classes)
        normalized = normalize_pixels(architecture, params, others, initial)
        with on_all_devices(params):
            weights, progress, epochs = train_fold(
                data, normalized, initial, params, f"fold {number}"
            )
        # On one device, as the evaluate stage predicts.
        network = trained_network(normalized, weights)
        members = np.flatnonzero(folds == number)
        yield PredictedFold(
            number,
            members,
            predict(network, select_images(train.images, members)),
            progress.best.epoch if progress.best else epochs,
            epochs,
        )


def train_fold(
    data: TrainData,
    architecture: Architecture,
    initial: InitialWeights | None,
    params: Params,
    title: str,
) -> tuple[Weights, TrainingProgress, int]:
    """Trains and calibrates one network as train does; a terminal shows a bar.

    Args:
        data: the examples of the other folds, and the validation split.
        architecture: of the network.
        initial: the initial weights, if there are any.
        params: the parameters of the run.
        title: of the bar.

    Returns:
        The weights of the best epoch, the progress, and the number of epochs.

    Raises:
        ParameterError: `calibrate` is set, and the network cannot be calibrated.
        DivergedError: a loss or a gradient is not finite.
    """
    steps = count_steps(len(data.train), params.batch_size)
    graphdef, state = build_state(params, architecture, steps, initial)
    head = None
    if params.calibrate:
        drawn = weights_of(eval_model(graphdef, state))
        head = find_output_layer(drawn, architecture, data.validation)
    progress = TrainingProgress(build_early_stopping(params))
    weights: Weights = {}
    quiet = not sys.stderr.isatty()
    total = params.epochs * steps
    with tqdm(total=total, desc=title, unit="step", disable=quiet, leave=False) as bar:
        for event in fit(state, graphdef, data, params):
            raise_if_stopped()
            if isinstance(event, SavePoint):
                continue
            if isinstance(event, EpochEnd):
                result = event.result
                bar.update(result.step - bar.n)
                progress.record(result)
                if progress.best is result:
                    weights = weights_of(event.model)
                if progress.monitor.reason:
                    break
            else:
                bar.update(event.step - bar.n)
    if head:
        weights = calibrate(weights, architecture, head, data.validation).weights
    return weights, progress, result.epoch
