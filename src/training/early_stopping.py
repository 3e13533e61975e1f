"""Which epoch is the best, when to stop waiting for a better one, when to slow down."""

import math
from dataclasses import dataclass

from src.config.names import MonitorMode, MonitorName
from src.config.params import Params


@dataclass
class BestTracker:
    """The best value of a metric so far; NaN is never better than anything."""

    name: MonitorName
    mode: MonitorMode
    min_delta: float
    epoch: int = 0  # from 1; 0: none yet
    value: float | None = None

    def improves(self, epoch: int, value: float) -> bool:
        """Whether `value` is better by more than `min_delta`; then it is the best."""
        better = not math.isnan(value) and (
            self.value is None or self.gain(value, self.value) > self.min_delta
        )
        if better:
            self.epoch, self.value = epoch, value
        return better

    def gain(self, value: float, other: float) -> float:
        """By how much `value` is better than `other`; negative where it is worse."""
        down = self.mode == "min" or (
            self.mode == "auto" and self.name.endswith("loss")
        )
        return other - value if down else value - other


@dataclass
class EarlyStopping:
    """Follows one metric from epoch to epoch, and says when to stop."""

    best: BestTracker
    patience: int | None
    first: int  # epoch, from which on patience and `bad` count
    good: float | None
    bad: float | None
    reason: str | None = None  # why to stop, once there is a reason

    def improves(self, epoch: int, value: float) -> bool:
        """Whether `value` is the best so far; may give a `reason` to stop.

        `patience: 3` does after three epochs in a row without improvement.
        """
        better = self.best.improves(epoch, value)
        waited = epoch - max(self.best.epoch, self.first - 1)
        name, gain = self.best.name, self.best.gain
        if self.good is not None and gain(value, self.good) >= 0:
            self.reason = f"stop_at: {name} reached {self.good:g}"
        elif epoch < self.first:
            pass
        elif self.bad is not None and not gain(value, self.bad) >= 0:
            self.reason = f"stop_if_worse_than: {name} is beyond {self.bad:g}"
        elif self.patience is not None and waited >= self.patience:
            self.reason = f"patience: {waited} epochs without a better {name}"
        return better


def build_early_stopping(params: Params) -> EarlyStopping:
    """What the parameters say of the best epoch and of stopping."""
    return EarlyStopping(
        best=BestTracker(params.monitor, params.monitor_mode, params.min_delta),
        patience=params.patience,
        first=params.start_from_epoch,
        good=params.stop_at,
        bad=params.stop_if_worse_than,
    )


@dataclass
class ReduceLROnPlateau:
    """Lowers the learning rate when a metric stops improving, between epochs.

    Like `torch.optim.lr_scheduler.ReduceLROnPlateau` with an absolute threshold, but
    `patience: 3` lowers it after exactly three epochs without improvement.
    """

    best: BestTracker
    rate: float
    lowest: float
    factor: float
    patience: int
    cooldown: int
    waited: int = 0  # epochs since the last improvement, fall or cooldown
    resting: int = 0  # epochs of cooldown to come

    def next_rate(self, epoch: int, value: float) -> float:
        """The rate of the next epoch, after one that ended with `value`."""
        better = self.best.improves(epoch, value)
        if better or self.resting:
            self.waited = 0
        else:
            self.waited += 1
        self.resting = max(self.resting - 1, 0)
        if self.waited >= self.patience:
            self.rate = max(self.rate * self.factor, self.lowest)
            self.waited, self.resting = 0, self.cooldown
        return self.rate


def build_plateau(params: Params) -> ReduceLROnPlateau:
    """What the parameters say of `schedule: plateau`."""
    return ReduceLROnPlateau(
        best=BestTracker(params.monitor, params.monitor_mode, params.min_delta),
        rate=params.lr,
        lowest=params.lr_end,
        factor=params.lr_factor,
        patience=params.lr_patience,
        cooldown=params.lr_cooldown,
    )
