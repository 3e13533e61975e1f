"""The data of training: which examples it sees, and in which order."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from src.config.params import Params
from src.data.examples import select
from src.data.prepared import Manifest, open_split
from src.errors import ParameterError
from src.sharding import device_put
from src.training.batches import BatchBlock, BatchSource, build_batches
from src.training.losses import class_weights

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
        train = select(train, chosen_rows(len(train.labels), params))
        validation = train if params.overfit_batches else validation
    return TrainData(
        train=build_batches(train, params),
        validation=build_batches(validation, params),
        classes=len(manifest.class_names),
    )


def chosen_rows(examples: int, params: Params) -> np.ndarray:
    """The rows of train that `limit_examples` and `overfit_batches` leave, rising.

    Args:
        examples: of train.
        params: the parameters of the run.
    """
    rng = np.random.default_rng((params.seed, SUBSET_STREAM))
    rows = rng.permutation(examples)[: params.limit_examples]
    if params.overfit_batches:
        rows = rows[: params.overfit_batches * params.batch_size]
    return np.sort(rows)


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


def epoch_order(
    labels: np.ndarray, batch_size: int, seed: int, epoch: int, sampling_power: float
) -> np.ndarray:
    """The examples of each step of an epoch: int32 `[steps, batch]`.

    A pure function of its arguments: a resumed run does not replay earlier epochs.

    Args:
        labels: int `[examples]`, of the training examples.
        batch_size: examples per step.
        seed: of the run.
        epoch: from 1.
        sampling_power: see `resample`; 0: no example twice.
    """
    rng = np.random.default_rng((seed, SHUFFLE_STREAM, epoch))
    steps = len(labels) // batch_size
    order = rng.permutation(len(labels))
    if sampling_power:
        order = rng.permutation(resample(order, labels, sampling_power, rng))
    order = order[: steps * batch_size]
    return order.reshape(steps, batch_size).astype(np.int32)


def resample(
    order: np.ndarray, labels: np.ndarray, power: float, rng: np.random.Generator
) -> np.ndarray:
    """Draws as many examples as in `order`, rare classes more often.

    A class of n examples is drawn in proportion to n to the power of `1 - power`.
    Systematic sampling: how often an example or a class is drawn differs from its
    expected count by less than 1.

    Source: Madow 1949, Annals of Mathematical Statistics 20, pp. 333-354.

    Args:
        order: the examples in a random order.
        labels: int `[examples]`.
        power: `sampling_power`, in (0, 1].
        rng: draws the offset of the sample.

    Returns:
        Indices `[examples]`, sorted by class.
    """
    by_class = order[np.argsort(labels[order], kind="stable")]
    expected = np.bincount(labels)[labels[by_class]] ** -power
    ends = np.cumsum(expected)
    ends *= len(order) / ends[-1]
    # The last end exactly: rounding could drop the last draw.
    ends[-1] = len(order)
    taken = np.minimum(np.floor(ends + rng.random()), len(order))
    return np.repeat(by_class, np.diff(taken, prepend=0).astype(int))


def weighted_blocks(
    split: BatchSource, order: np.ndarray, classes: int, params: Params, first: int = 0
) -> Iterator[BatchBlock]:
    """The batches of an order, as `BatchSource.blocks`, with the class weights."""
    weights = class_weights(split.labels, classes, params.class_weight_power)
    on_device = None if weights is None else device_put(weights)
    for block in split.blocks(order, first):
        yield block._replace(class_weights=on_device)
