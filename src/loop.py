"""The loop around the compiled chunks: epochs, their order, their scores.

It is a generator: what happens with a chunk or an epoch - shown, kept, stopped after -
is the caller's.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.config import MonitorName, Params
from src.data.prepared import Manifest, load_split
from src.data.split import Examples
from src.errors import DivergedError, ParameterError
from src.interrupt import raise_if_stopped
from src.models import Model
from src.optim import build_schedule
from src.state import STEPS, Graph, seed_key, with_empty_metrics
from src.step import Chunk, Sums, run_chunk, score

SHUFFLE = 3  # the stream of the seed that orders the epochs


@dataclass(frozen=True)
class TrainData:
    """The two splits that training may see, on the device."""

    train: Examples
    validation: Examples


def load_train_data(manifest: Manifest) -> TrainData:
    """Reads the two splits and brings them to the device, as uint8.

    Raises:
        DataError: a split is missing, changed or malformed.
    """
    train, validation = (
        Examples(*map(jnp.asarray, load_split(name, manifest)))
        for name in ("train", "validation")
    )
    return TrainData(train, validation)


@dataclass(frozen=True)
class Means:
    """Loss in nats and accuracy in [0, 1], each a sum divided once."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Steps:
    """What `log_every` steps did; a row of steps.csv."""

    epoch: int  # from 1
    step: int  # steps since training began
    train: Means  # over the examples of these steps
    lr: float  # of the last step
    gradient_norm: float  # of the last step, before clipping


@dataclass(frozen=True)
class Epoch:
    """What an epoch did; a row of history.csv."""

    epoch: int  # from 1
    step: int  # steps since training began
    train: Means  # each example scored just before it was learned from
    validation: Means
    lr: float  # of the last step
    model: Model  # valid until the next event is asked for: then it is overwritten

    def value(self, name: MonitorName) -> float:
        """The number that `monitor` names."""
        match name:
            case "validation_loss":
                return self.validation.loss
            case "validation_accuracy":
                return self.validation.accuracy


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


def fit(
    state: nnx.State, graph: Graph, data: TrainData, params: Params
) -> Iterator[Steps | Epoch]:
    """Trains; yields every `log_every` steps, and after each epoch's validation.

    Args:
        state: consumed, see `run_chunk`.
        graph: of `(model, optimizer, metrics)`.
        data: the training and validation split.
        params: the run's.

    Raises:
        DivergedError: a loss or a gradient is not finite.
    """
    examples = len(data.train.labels)
    steps = count_steps(examples, params.batch_size)
    schedule = jax.jit(build_schedule(params, steps))
    key = seed_key(params.seed, STEPS)
    for epoch in range(1, params.epochs + 1):
        order = epoch_order(examples, params.batch_size, params.seed, epoch)
        rows = jnp.asarray(order)
        state = with_empty_metrics(state, graph)
        before = None
        done = (epoch - 1) * steps
        for start in range(0, steps, params.log_every):
            stop = min(start + params.log_every, steps)
            state, result = run_chunk(
                state, data.train, rows, start, stop, key, graph=graph, params=params
            )
            chunk: Chunk = jax.device_get(result)
            lr = float(schedule(done + chunk.steps - 1))
            check_finite(chunk, epoch, done, lr)
            recent = means(chunk.sums, before)
            before = chunk.sums
            raise_if_stopped()
            yield Steps(epoch, done + stop, recent, lr, float(chunk.gradient_norm))
        validation = means(jax.device_get(score(state, data.validation, graph=graph)))
        check_validation(validation, epoch, lr)
        model, _, _ = nnx.merge(graph, state)
        yield Epoch(epoch, done + steps, means(chunk.sums), validation, lr, model)


def means(sums: Sums, before: Sums | None = None) -> Means:
    """The means over all that was added, or over what was added since `before`."""
    loss, correct, examples = (float(number) for number in sums)
    if before is not None:
        loss -= float(before.loss)
        correct -= float(before.correct)
        examples -= float(before.examples)
    return Means(loss / examples, correct / examples)


def check_finite(chunk: Chunk, epoch: int, done: int, lr: float) -> None:
    """Raises DivergedError where the last step's loss or gradient is not finite."""
    loss, norm = float(chunk.loss), float(chunk.gradient_norm)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise DivergedError(
            f"step {done + int(chunk.steps)} (epoch {epoch}): expected finite numbers, "
            f"found loss {loss:g} and gradient norm {norm:g} at learning rate {lr:g}. "
            "Lower lr, set clip_norm, or raise warmup_epochs."
        )


def check_validation(validation: Means, epoch: int, lr: float) -> None:
    """Raises DivergedError where the validation loss is not finite."""
    if not math.isfinite(validation.loss):
        raise DivergedError(
            f"epoch {epoch}: expected a finite validation loss, found "
            f"{validation.loss:g} at learning rate {lr:g}. Lower lr, or set clip_norm."
        )
