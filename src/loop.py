"""The loop around the compiled chunks: epochs, their order, their scores.

It is a generator: what happens with a chunk or an epoch - shown, kept, stopped after -
is the caller's.
"""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
from flax import nnx

from src.config import MonitorName, Params
from src.data.training import TrainData, count_steps, epoch_order
from src.debug import run_chunk_watched
from src.devices import lay_out
from src.errors import DivergedError
from src.metrics import macro_averages
from src.models import Model
from src.monitor import Plateau, build_plateau
from src.processes import agree
from src.score import Tally, score
from src.state import STEPS, Graph, seed_key, with_empty_metrics, with_learning_rate
from src.step import Chunk, Skips, Sums, run_chunk


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
class Result:
    """What an epoch did; a row of history.csv."""

    epoch: int  # from 1
    step: int  # steps since training began
    train: Means | None  # scored just before learned from; None: all were skipped
    validation: Scores
    lr: float  # of the last step
    skipped: int  # steps since training began

    def value(self, name: MonitorName) -> float:
        """The number that `monitor` names; NaN where there is none."""
        split, metric = name.split("_", maxsplit=1)
        value: float = getattr(getattr(self, split), metric, math.nan)
        return value


@dataclass(frozen=True)
class Epoch:
    """An epoch is over."""

    result: Result
    model: Model  # valid until the next event is asked for: then it is overwritten
    end: str | None  # why there is no epoch after this one


@dataclass(frozen=True)
class Position:
    """Where training is; with the state, all that the rest of it depends on."""

    epoch: int  # from 1, the one that is under way
    taken: int  # steps of it
    before: tuple[float, ...] | None  # its `Sums` when a row of steps.csv last ended
    skipped: int  # steps since training began, until then
    plateau: Plateau


@dataclass(frozen=True)
class Point:
    """Training could be interrupted here; valid until the next event is asked for."""

    state: nnx.State
    position: Position
    ends_epoch: bool


def fit(
    state: nnx.State,
    graph: Graph,
    data: TrainData,
    params: Params,
    position: Position | None = None,
) -> Iterator[Steps | Epoch | Point]:
    """Trains; yields every `log_every` steps, and after each epoch's validation.

    After each of these but the last, and about every second, comes a `Point`.

    Args:
        state: consumed, see `run_chunk`.
        graph: of the `Parts`.
        data: the training and validation split.
        params: the run's.
        position: where the state is from; None: the beginning.

    Raises:
        DivergedError: a loss or a gradient is not finite.
    """
    examples = len(data.train)
    steps = count_steps(examples, params.batch_size)
    key = seed_key(params.seed, STEPS)
    limits, pace = Limits(params), Pace()
    run = run_chunk_watched if params.debug else run_chunk
    now = position or Position(1, 0, None, 0, build_plateau(params))
    state = lay_out(state)
    for epoch in range(now.epoch, params.epochs + 1):
        order = epoch_order(examples, params.batch_size, params.seed, epoch)
        if now.taken == 0:
            state = with_empty_metrics(state, graph)
        done = (epoch - 1) * steps
        blocks = data.train.blocks(order, now.taken)
        block = next(blocks)
        while now.taken < steps and not limits.reason:
            if now.taken == block.stop:
                block = next(blocks)
            row_end = min(next_multiple(now.taken, params.log_every), steps)
            row_end = min(row_end, limits.steps - done)
            stop = pace.stop(now.taken, min(row_end, block.stop))
            state, result = run(
                *(state, block.examples, block.rows, now.taken, stop, done, key),
                graph=graph,
                params=params,
            )
            chunk: Chunk = jax.device_get(result)
            pace.learn(stop - now.taken)
            check_finite(chunk, epoch, done)
            now = replace(now, taken=stop)
            if stop == row_end:
                limits.look(done + stop)
                yield steps_of(chunk, now, done + stop)
                sums = tuple(map(float, chunk.sums))
                now = replace(now, before=sums, skipped=skipped_of(chunk))
            if stop < steps and not limits.reason:
                yield Point(state, now, ends_epoch=False)
        validation = validate(state, graph, data, params)
        check_validation(validation, epoch, float(chunk.lr))
        result = result_of(chunk, validation, now, done + now.taken)
        end = "epochs" if epoch == params.epochs else limits.reason
        yield Epoch(result, nnx.merge(graph, state).best, end)
        if end:
            return
        if params.schedule == "plateau":
            rate = now.plateau.next_rate(epoch, result.value(params.monitor))
            state = with_learning_rate(state, graph, rate)
        now = replace(now, epoch=epoch + 1, taken=0, before=None)
        yield Point(state, now, ends_epoch=True)


def next_multiple(number: int, of: int) -> int:
    """The next larger multiple."""
    return (number // of + 1) * of


class Pace:
    """How many steps take about a second: so long a signal may have to wait."""

    def __init__(self) -> None:
        self.steps = 1
        self.began = 0.0
        self.first = True  # compiles: its time says nothing

    def stop(self, start: int, end: int) -> int:
        """Where to look up again on the way from `start` to `end`."""
        self.began = time.monotonic()
        (steps,) = agree(self.steps)
        return min(start + steps, end)

    def learn(self, taken: int) -> None:
        """Takes more or fewer steps next time, by how long `taken` of them took."""
        seconds = time.monotonic() - self.began
        if seconds < 0.5 and taken == self.steps:
            self.steps *= 2
        elif seconds > 1 and not self.first:
            self.steps = max(taken // 2, 1)
        self.first = False


def steps_of(chunk: Chunk, position: Position, step: int) -> Steps:
    """The row of steps.csv that ends here."""
    total = skipped_of(chunk)
    return Steps(
        epoch=position.epoch,
        step=step,
        train=means(chunk.sums, position.before),
        lr=float(chunk.lr),
        gradient_norm=float(chunk.gradient_norm),
        skipped=total - position.skipped,
        skipped_steps=latest_skipped(chunk.skips, total - position.skipped),
        loss_scale=float(chunk.skips.scale) if chunk.skips else 1.0,
    )


def result_of(
    chunk: Chunk, validation: Scores, position: Position, step: int
) -> Result:
    """The row of history.csv of an epoch that ended with this chunk."""
    return Result(
        epoch=position.epoch,
        step=step,
        train=means(chunk.sums),
        validation=validation,
        lr=float(chunk.lr),
        skipped=position.skipped,
    )


def validate(state: nnx.State, graph: Graph, data: TrainData, params: Params) -> Scores:
    """What the validation split says of the network."""
    split, classes = data.validation, data.classes
    tally = score(state, split, classes, graph=graph, top_k=params.top_k)
    return scores(jax.device_get(tally))


def skipped_of(chunk: Chunk) -> int:
    """How many steps were skipped since training began."""
    return int(chunk.skips.total) if chunk.skips else 0


class Limits:
    """What ends training in the middle of an epoch: `max_steps` and `max_minutes`."""

    def __init__(self, params: Params) -> None:
        self.steps = params.max_steps or sys.maxsize
        self.minutes = params.max_minutes or math.inf
        self.began = time.monotonic()
        self.reason: str | None = None  # why to end, once there is a reason

    def look(self, steps: int) -> None:
        """May find a reason, after so many steps since training began."""
        if steps >= self.steps:
            self.reason = f"max_steps: {self.steps}"
        elif self.over():
            self.reason = f"max_minutes: {self.minutes:g}"

    def over(self) -> bool:
        """Whether the time is up, in any process."""
        if math.isinf(self.minutes):
            return False
        (late,) = agree(time.monotonic() - self.began > 60 * self.minutes)
        return bool(late)


def means(sums: Sums, before: Sequence[float] | None = None) -> Means | None:
    """The means over all that was added, or over what was added since `before`.

    None where nothing was. `before` has the numbers of a `Sums`.
    """
    old = before or [0.0] * len(sums)
    total, rest, correct, examples = (
        float(new) - then for new, then in zip(sums, old, strict=True)
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


def latest_skipped(skips: Skips | None, new: int) -> tuple[int, ...]:
    """The numbers of the `new` steps that were skipped last, at most 64."""
    if skips is None:
        return ()
    total, size = int(skips.total), len(skips.steps)
    places = range(total - min(new, size), total)
    return tuple(int(skips.steps[place % size]) for place in places)


def check_finite(chunk: Chunk, epoch: int, done: int) -> None:
    """Raises DivergedError where the loss or gradient make it hopeless to go on."""
    loss, norm, lr = (float(n) for n in (chunk.loss, chunk.gradient_norm, chunk.lr))
    tolerant = chunk.skips is not None
    if chunk.lost or not (tolerant or (math.isfinite(loss) and math.isfinite(norm))):
        so_far = ""
        if chunk.skips:
            before = int(chunk.skips.total) - 1
            so_far = f", after {before} skipped, one too many in a row"
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
