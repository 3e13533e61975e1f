"""What the loop tells of training: rows of steps, epochs, points to interrupt it at."""

import math
from dataclasses import dataclass

from flax import nnx

from src.config.names import MonitorName
from src.models.build import Model
from src.training.early_stopping import ReduceLROnPlateau


@dataclass(frozen=True)
class TrainMetrics:
    """Loss in nats and accuracy in [0, 1], each a sum divided once."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class ValidationMetrics(TrainMetrics):
    """What validation says of a network; macro averages count each class the same."""

    precision: float
    recall: float
    f1: float
    top_k: float


@dataclass(frozen=True)
class LogRow:
    """What `log_every` steps did; a row of steps.csv."""

    epoch: int  # from 1
    step: int  # steps since training began
    train: (
        TrainMetrics | None
    )  # over the examples of these steps; None: all were skipped
    lr: float  # of the last step that was not skipped
    gradient_norm: float  # of the last step, before clipping
    skipped: int  # how many of these steps were
    skipped_steps: tuple[int, ...]  # the numbers of the latest 64 of them
    loss_scale: float  # after the last step


@dataclass(frozen=True)
class EpochResult:
    """What an epoch did; a row of history.csv."""

    epoch: int  # from 1
    step: int  # steps since training began
    train: (
        TrainMetrics | None
    )  # scored just before learned from; None: all were skipped
    validation: ValidationMetrics
    lr: float  # of the last step
    skipped: int  # steps since training began

    def value(self, name: MonitorName) -> float:
        """The number that `monitor` names; NaN where there is none."""
        split, metric = name.split("_", maxsplit=1)
        value: float = getattr(getattr(self, split), metric, math.nan)
        return value


@dataclass(frozen=True)
class EpochEnd:
    """An epoch is over."""

    result: EpochResult
    model: Model  # valid until the next event is asked for: then it is overwritten
    end: str | None  # why there is no epoch after this one


@dataclass(frozen=True)
class LoopPosition:
    """Where training is; with the state, all that the rest of it depends on."""

    epoch: int  # from 1, the one that is under way
    taken: int  # steps of it
    before: (
        tuple[float, ...] | None
    )  # its `MetricSums` when a row of steps.csv last ended
    skipped: int  # steps since training began, until then
    plateau: ReduceLROnPlateau


@dataclass(frozen=True)
class SavePoint:
    """Training could be interrupted here; valid until the next event is asked for."""

    state: nnx.State
    position: LoopPosition
    ends_epoch: bool
