"""The loop around the compiled chunks: epochs, their order, their scores.

It is a generator: what happens with a chunk or an epoch - shown, kept, stopped after -
is the caller's.
"""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.config import MonitorName, Params
from src.data.training import TrainData, count_steps, epoch_order
from src.debug import run_chunk_watched
from src.errors import DivergedError
from src.interrupt import raise_if_stopped
from src.metrics import macro_averages
from src.models import Model
from src.monitor import Plateau
from src.state import STEPS, Graph, seed_key, with_empty_metrics, with_learning_rate
from src.step import Chunk, Skips, Sums, Tally, run_chunk, score


@dataclass(frozen=True)
class Means:
    """Loss in nats and accuracy in [0, 1], each a sum divided once."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Scores(Means):
    """What validation says of a network; macro averages count each class the same."""

    precision: float
    recall: float
    f1: float
    top_k: float


@dataclass(frozen=True)
class Steps:
    """What `log_every` steps did; a row of steps.csv."""

    epoch: int  # from 1
    step: int  # steps since training began
    train: Means | None  # over the examples of these steps; None: all were skipped
    lr: float  # of the last step that was not skipped
    gradient_norm: float  # of the last step, before clipping
    skipped: int  # how many of these steps were
    skipped_steps: tuple[int, ...]  # the numbers of the latest 64 of them
    loss_scale: float  # after the last step


@dataclass(frozen=True)
class Epoch:
    """What an epoch did; a row of history.csv."""

    epoch: int  # from 1
    step: int  # steps since training began
    train: Means | None  # scored just before learned from; None: all were skipped
    validation: Scores
    lr: float  # of the last step
    skipped: int  # steps since training began
    model: Model  # valid until the next event is asked for: then it is overwritten
    end: str | None  # why there is no epoch after this one

    def value(self, name: MonitorName) -> float:
        """The number that `monitor` names; NaN where there is none."""
        split, metric = name.split("_", maxsplit=1)
        value: float = getattr(getattr(self, split), metric, math.nan)
        return value


def fit(
    state: nnx.State, graph: Graph, data: TrainData, params: Params
) -> Iterator[Steps | Epoch]:
    """Trains; yields every `log_every` steps, and after each epoch's validation.

    Args:
        state: consumed, see `run_chunk`.
        graph: of the `Parts`.
        data: the training and validation split.
        params: the run's.

    Raises:
        DivergedError: a loss or a gradient is not finite.
    """
    examples = len(data.train.labels)
    steps = count_steps(examples, params.batch_size)
    key = seed_key(params.seed, STEPS)
    plateau, limits = Plateau(params), Limits(params)
    run = run_chunk_watched if params.debug else run_chunk
    skips: Skips | None = None
    for epoch in range(1, params.epochs + 1):
        rows = jnp.asarray(epoch_order(examples, params.batch_size, params.seed, epoch))
        state = with_empty_metrics(state, graph)
        before = None
        done, taken = (epoch - 1) * steps, 0
        while taken < steps and not limits.reason:
            start, taken = taken, min(taken + params.log_every, limits.end(steps, done))
            state, result = run(
                *(state, data.train, rows, start, taken, done, key),
                graph=graph,
                params=params,
            )
            chunk: Chunk = jax.device_get(result)
            check_finite(chunk, epoch, done)
            raise_if_stopped()
            limits.look(done + taken)
            yield Steps(
                epoch=epoch,
                step=done + taken,
                train=means(chunk.sums, before),
                lr=float(chunk.lr),
                gradient_norm=float(chunk.gradient_norm),
                skipped=skipped_since(skips, chunk.skips),
                skipped_steps=latest_skipped(chunk.skips, skips),
                loss_scale=float(chunk.skips.scale) if chunk.skips else 1.0,
            )
            before, skips = chunk.sums, chunk.skips
        tally = score(state, data.validation, graph=graph, top_k=params.top_k)
        validation = scores(jax.device_get(tally))
        check_validation(validation, epoch, float(chunk.lr))
        last = Epoch(
            epoch=epoch,
            step=done + taken,
            train=means(chunk.sums),
            validation=validation,
            lr=float(chunk.lr),
            skipped=skipped_since(None, skips),
            model=nnx.merge(graph, state).best,
            end="epochs" if epoch == params.epochs else limits.reason,
        )
        yield last
        if last.end:
            return
        if params.schedule == "plateau":
            rate = plateau.next_rate(epoch, last.value(params.monitor))
            state = with_learning_rate(state, graph, rate)


class Limits:
    """What ends training in the middle of an epoch: `max_steps` and `max_minutes`."""

    def __init__(self, params: Params) -> None:
        self.steps = params.max_steps or sys.maxsize
        self.minutes = params.max_minutes or math.inf
        self.began = time.monotonic()
        self.reason: str | None = None  # why to end, once there is a reason

    def end(self, steps: int, done: int) -> int:
        """The step of an epoch before which it ends; `done` were taken before it."""
        return min(steps, self.steps - done)

    def look(self, steps: int) -> None:
        """May find a reason, after so many steps since training began."""
        if steps >= self.steps:
            self.reason = f"max_steps: {self.steps}"
        elif time.monotonic() - self.began > 60 * self.minutes:
            self.reason = f"max_minutes: {self.minutes:g}"


def means(sums: Sums, before: Sums | None = None) -> Means | None:
    """The means over all that was added, or over what was added since `before`.

    None where nothing was.
    """
    total, rest, correct, examples = (
        float(new) - (float(old) if before else 0.0)
        for new, old in zip(sums, before or sums, strict=True)
    )
    return Means((total - rest) / examples, correct / examples) if examples else None


def scores(tally: Tally) -> Scores:
    """The counts of a split, divided."""
    confusion = np.asarray(tally.confusion)
    examples = int(confusion.sum())
    return Scores(
        loss=float(tally.loss) / examples,
        accuracy=int(np.trace(confusion)) / examples,
        **macro_averages(confusion),
        top_k=int(tally.top_k) / examples,
    )


def skipped_since(before: Skips | None, skips: Skips | None) -> int:
    """How many steps were skipped between two looks at the guard."""
    return (int(skips.total) if skips else 0) - (int(before.total) if before else 0)


def latest_skipped(skips: Skips | None, before: Skips | None) -> tuple[int, ...]:
    """The numbers of the steps that were skipped since `before`, the latest 64."""
    if skips is None:
        return ()
    total, size = int(skips.total), len(skips.steps)
    new = min(skipped_since(before, skips), size)
    return tuple(int(skips.steps[place % size]) for place in range(total - new, total))


def check_finite(chunk: Chunk, epoch: int, done: int) -> None:
    """Raises DivergedError where the loss or gradient make it hopeless to go on."""
    loss, norm, lr = (float(n) for n in (chunk.loss, chunk.gradient_norm, chunk.lr))
    tolerant = chunk.skips is not None
    if chunk.lost or not (tolerant or (math.isfinite(loss) and math.isfinite(norm))):
        so_far = f", after {int(chunk.skips.total) - 1} skipped" if chunk.skips else ""
        raise DivergedError(
            f"step {done + int(chunk.steps)} (epoch {epoch}){so_far}: expected finite "
            f"numbers, found loss {loss:g} and gradient norm {norm:g} at learning rate "
            f"{lr:g}. Lower lr, set clip_norm, or raise warmup_epochs; debug=true "
            "finds the operation."
        )


def check_validation(validation: Scores, epoch: int, lr: float) -> None:
    """Raises DivergedError where the validation loss is not finite."""
    if not math.isfinite(validation.loss):
        raise DivergedError(
            f"epoch {epoch}: expected a finite validation loss, found "
            f"{validation.loss:g} at learning rate {lr:g}. Lower lr, or set clip_norm."
        )
