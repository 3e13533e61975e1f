"""What training sees of the prepared data, and in which order."""

from dataclasses import dataclass

import numpy as np

from src.config.params import Params
from src.data.examples import select
from src.data.prepared import Manifest, open_split
from src.errors import ParameterError
from src.training.batches import BatchSource, build_batches

SHUFFLE, SUBSET = 3, 4  # streams of the seed: the order of epochs, a choice of examples


@dataclass(frozen=True)
class TrainData:
    """The two splits that training may see."""

    train: BatchSource
    validation: BatchSource
    classes: int


def load_train_data(manifest: Manifest, params: Params) -> TrainData:
    """Brings the two splits to the device as uint8, or opens what does not fit there.

    With `limit_examples` less of train; with `overfit_batches` the same few examples
    twice.

    Raises:
        DataError: a split is missing, changed or malformed.
    """
    train, validation = (open_split(name, manifest) for name in ("train", "validation"))
    if params.limit_examples or params.overfit_batches:
        rng = np.random.default_rng((params.seed, SUBSET))
        rows = rng.permutation(len(train.labels))[: params.limit_examples]
        if params.overfit_batches:
            rows = rows[: params.overfit_batches * params.batch_size]
        train = select(train, np.sort(rows))
        validation = train if params.overfit_batches else validation
    classes = len(manifest.class_names)
    return TrainData(
        build_batches(train, params), build_batches(validation, params), classes
    )


def count_steps(examples: int, batch_size: int) -> int:
    """Steps per epoch: whole batches; what is left over waits for another shuffle.

    Raises:
        ParameterError: there is no whole batch.
    """
    if batch_size > examples:
        raise ParameterError(
            f"params.yaml: batch_size: expected at most the {examples} training "
            f"examples, got {batch_size}. Use {examples} or less."
        )
    return examples // batch_size


def epoch_order(examples: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The examples of each step of an epoch: int32 `[steps, batch]`, none twice.

    A function of its arguments alone: no epoch needs the ones before it.
    """
    order = np.random.default_rng((seed, SHUFFLE, epoch)).permutation(examples)
    steps = examples // batch_size
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)
