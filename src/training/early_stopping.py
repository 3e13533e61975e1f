"""The best epoch, early stopping, and lowering the learning rate on a plateau."""

import math
from dataclasses import dataclass, replace
from typing import Self

from src.config.names import MonitorMode, MonitorName
from src.config.params import Params


@dataclass
class BestTracker:
    """The best value of a metric so far. NaN never improves it."""

    name: MonitorName
    mode: MonitorMode
    min_delta: float
    epoch: int = 0  # from 1; 0: none yet
    value: float | None = None

    def update(self, epoch: int, value: float) -> None:
        """Keeps `value` where it is better by more than `min_delta`."""
        if math.isnan(value):
            return
        if self.value is None or self.gain(value, self.value) > self.min_delta:
            self.epoch, self.value = epoch, value

    def gain(self, value: float, other: float) -> float:
        """How much better `value` is than `other`; negative where it is worse."""
        lower_is_better = self.mode == "min" or (
            self.mode == "auto" and self.name.endswith("loss")
        )
        return other - value if lower_is_better else value - other


@dataclass
class EarlyStopping:
    """Decides after each epoch whether training stops."""

    best: BestTracker
    patience: int | None
    first_epoch: int  # from which `patience` and `stop_if_worse_than` count
    stop_at: float | None
    stop_if_worse_than: float | None
    reason: str | None = None  # why to stop; None: continue

    def update(self, epoch: int, value: float) -> None:
        """Records an epoch; sets `reason` where training should stop.

        With `patience: 3` it stops after three epochs in a row without improvement.
        """
        self.best.update(epoch, value)
        waited = epoch - max(self.best.epoch, self.first_epoch - 1)
        name, gain, limit = self.best.name, self.best.gain, self.stop_if_worse_than
        if self.stop_at is not None and gain(value, self.stop_at) >= 0:
            self.reason = f"stop_at: {name} reached {self.stop_at:g}"
        elif epoch < self.first_epoch:
            pass
        elif limit is not None and not gain(value, limit) >= 0:  # NaN is worse, too
            self.reason = f"stop_if_worse_than: {name} is beyond {limit:g}"
        elif self.patience is not None and waited >= self.patience:
            self.reason = f"patience: {waited} epochs without a better {name}"


def build_best_tracker(params: Params) -> BestTracker:
    """The tracker of `monitor`."""
    return BestTracker(params.monitor, params.monitor_mode, params.min_delta)


def build_early_stopping(params: Params) -> EarlyStopping:
    """Early stopping as the parameters configure it."""
    return EarlyStopping(
        best=build_best_tracker(params),
        patience=params.patience,
        first_epoch=params.start_from_epoch,
        stop_at=params.stop_at,
        stop_if_worse_than=params.stop_if_worse_than,
    )


@dataclass(frozen=True)
class ReduceLROnPlateau:
    """Lowers the learning rate between epochs when a metric stops improving.

    As `torch.optim.lr_scheduler.ReduceLROnPlateau` with an absolute threshold, except
    that `patience: 3` lowers it after exactly three epochs without improvement.
    """

    best: BestTracker
    rate: float  # of the next epoch
    lowest: float
    factor: float
    patience: int
    cooldown: int
    waited: int = 0  # epochs since the last improvement, reduction or cooldown
    cooldown_left: int = 0  # epochs

    def after(self, epoch: int, value: float) -> Self:
        """The schedule after an epoch that ended with `value`."""
        best = replace(self.best)
        best.update(epoch, value)
        improved = best.epoch == epoch
        waited = 0 if improved or self.cooldown_left else self.waited + 1
        rate, cooldown_left = self.rate, max(self.cooldown_left - 1, 0)
        if waited >= self.patience:
            rate = max(rate * self.factor, self.lowest)
            waited, cooldown_left = 0, self.cooldown
        return replace(
            self, best=best, rate=rate, waited=waited, cooldown_left=cooldown_left
        )


def build_plateau(params: Params) -> ReduceLROnPlateau:
    """The reduction on a plateau as the parameters configure it."""
    return ReduceLROnPlateau(
        best=build_best_tracker(params),
        rate=params.lr,
        lowest=params.lr_end,
        factor=params.lr_factor,
        patience=params.lr_patience,
        cooldown=params.lr_cooldown,
    )
