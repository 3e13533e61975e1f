"""The data of training: which examples it sees, and in which order."""

from dataclasses import dataclass

import numpy as np

from src.config.params import Params
from src.data.examples import select
from src.data.prepared import Manifest, open_split
from src.errors import ParameterError
from src.training.batches import BatchSource, build_batches

SHUFFLE_STREAM, SUBSET_STREAM = 3, 4  # streams of the seed: epoch order; a subset


@dataclass(frozen=True)
class TrainData:
    """The two splits that training may see."""

    train: BatchSource
    validation: BatchSource
    classes: int


def load_train_data(manifest: Manifest, params: Params) -> TrainData:
    """Loads both splits as uint8 onto the device, or opens them for streaming.

    `limit_examples` selects a subset of train. `overfit_batches` trains and validates
    on the same few examples.

    Raises:
        DataError: a split is missing, changed or malformed.
    """
    train, validation = (open_split(name, manifest) for name in ("train", "validation"))
    if params.limit_examples or params.overfit_batches:
        rng = np.random.default_rng((params.seed, SUBSET_STREAM))
        subset = rng.permutation(len(train.labels))[: params.limit_examples]
        if params.overfit_batches:
            subset = subset[: params.overfit_batches * params.batch_size]
        train = select(train, np.sort(subset))
        validation = train if params.overfit_batches else validation
    return TrainData(
        train=build_batches(train, params),
        validation=build_batches(validation, params),
        classes=len(manifest.class_names),
    )


def count_steps(examples: int, batch_size: int) -> int:
    """Steps per epoch: whole batches only; each epoch leaves out other examples.

    Raises:
        ParameterError: there is no whole batch.
    """
    if batch_size > examples:
        raise ParameterError(
            f"params.yaml: batch_size: expected at most the {examples} training "
            f"examples, found {batch_size}. Use {examples} or less."
        )
    return examples // batch_size


def epoch_order(examples: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The examples of each step of an epoch: int32 `[steps, batch]`, none twice.

    A pure function of its arguments: a resumed run does not replay earlier epochs.
    """
    rng = np.random.default_rng((seed, SHUFFLE_STREAM, epoch))
    steps = examples // batch_size
    order = rng.permutation(examples)[: steps * batch_size]
    return order.reshape(steps, batch_size).astype(np.int32)
