"""What the training loop yields: log rows, ends of epochs, points to save at."""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from flax import nnx

from src.config.names import MonitorName
from src.config.params import Params
from src.models.build import Model
from src.training.chunk import ChunkResult, MetricSums, SkippedSteps
from src.training.early_stopping import ReduceLROnPlateau, build_plateau
from src.training.state import TrainGraph, eval_model
from src.training.validation import ValidationMetrics, ValidationResult


@dataclass(frozen=True)
class TrainMetrics:
    """Mean loss in nats and accuracy in [0, 1] over training examples as drawn.

    The loss is the one that training minimizes: augmented, smoothed, and weighted by
    class.
    """

    loss: float
    accuracy: float


@dataclass(frozen=True)
class LoopPosition:
    """Where training is; state and position determine the rest of the run."""

    epoch: int  # from 1
    step_in_epoch: int  # steps of this epoch taken
    # The `MetricSums` at the start of the current row of steps.csv; None: zeros.
    row_start: tuple[float, ...] | None
    skipped: int  # steps skipped before the current row of steps.csv
    plateau: ReduceLROnPlateau

    @classmethod
    def start(cls, params: Params) -> Self:
        """The position before the first step."""
        return cls(
            epoch=1,
            step_in_epoch=0,
            row_start=None,
            skipped=0,
            plateau=build_plateau(params),
        )

    def after_row(self, chunk: ChunkResult) -> Self:
        """The position at the start of the next row of steps.csv."""
        sums = tuple(float(value) for value in chunk.sums)
        return replace(self, row_start=sums, skipped=count_skipped(chunk))


@dataclass(frozen=True)
class LogRow:
    """A row of steps.csv: the last `log_every` steps."""

    epoch: int  # from 1
    step: int  # steps since training began
    train: TrainMetrics | None  # over the examples of these steps; None: all skipped
    lr: float  # of the last step that was not skipped
    grad_norm: float  # of the last step, before clipping
    skipped: int  # how many of these steps were skipped
    skipped_steps: tuple[int, ...]  # the numbers of the latest 64 of them
    loss_scale: float  # after the last step

    @classmethod
    def of(cls, chunk: ChunkResult, position: LoopPosition, step: int) -> Self:
        """The row that ends with `chunk`."""
        skipped = count_skipped(chunk) - position.skipped
        return cls(
            epoch=position.epoch,
            step=step,
            train=mean_since(chunk.sums, position.row_start),
            lr=float(chunk.lr),
            grad_norm=float(chunk.grad_norm),
            skipped=skipped,
            skipped_steps=latest_skipped(chunk.skips, skipped),
            loss_scale=float(chunk.skips.scale) if chunk.skips else 1.0,
        )


@dataclass(frozen=True)
class EpochResult:
    """A row of history.csv."""

    epoch: int  # from 1
    step: int  # steps since training began
    train: TrainMetrics | None  # scored before each update; None: all steps skipped
    validation: ValidationMetrics
    lr: float  # of the last step
    skipped: int  # steps since training began
    predicted: tuple[int, ...]  # validation examples predicted as each class

    @classmethod
    def of(
        cls,
        chunk: ChunkResult,
        validation: ValidationResult,
        position: LoopPosition,
        step: int,
    ) -> Self:
        """The result of the epoch whose last chunk is `chunk`."""
        return cls(
            epoch=position.epoch,
            step=step,
            train=mean_since(chunk.sums),
            validation=validation.metrics,
            predicted=validation.predicted,
            lr=float(chunk.lr),
            skipped=position.skipped,
        )

    def value(self, name: MonitorName) -> float:
        """The number that `monitor` names; NaN where there is none."""
        split, metric = name.split("_", maxsplit=1)
        value: float = getattr(getattr(self, split), metric, math.nan)
        return value


@dataclass(frozen=True)
class EpochEnd:
    """An epoch was trained and validated."""

    result: EpochResult
    graphdef: TrainGraph
    state: nnx.State  # valid until the next event: then its buffers are reused
    stopped: str | None  # why this is the last epoch

    @property
    def model(self) -> Model:
        """The trained model, as it was validated; valid as long as `state`."""
        return eval_model(self.graphdef, self.state)


@dataclass(frozen=True)
class SavePoint:
    """A state that training can resume from; valid until the next event."""

    state: nnx.State
    position: LoopPosition
    ends_epoch: bool


def count_skipped(chunk: ChunkResult) -> int:
    """Steps skipped since training began."""
    return int(chunk.skips.total) if chunk.skips else 0


def latest_skipped(skips: SkippedSteps | None, count: int) -> tuple[int, ...]:
    """The numbers of the latest `count` skipped steps, at most 64."""
    if skips is None:
        return ()
    total, size = int(skips.total), len(skips.steps)
    places = range(total - min(count, size), total)
    return tuple(int(skips.steps[place % size]) for place in places)


def mean_since(
    sums: MetricSums, start: tuple[float, ...] | None = None
) -> TrainMetrics | None:
    """The means over what was added since `start`; None where nothing was."""
    total, compensation, correct, examples = (
        np.asarray(sums, np.float64) - (start or 0.0)
    ).tolist()
    if not examples:
        return None
    return TrainMetrics((total - compensation) / examples, correct / examples)
