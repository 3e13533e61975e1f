"""Which epoch is the best, when to stop waiting for a better one, when to slow down."""

import math
from dataclasses import dataclass

from src.config import MonitorMode, MonitorName, Params


@dataclass
class Best:
    """The best value of a metric so far; NaN is never better than anything."""

    name: MonitorName
    mode: MonitorMode
    min_delta: float
    epoch: int = 0  # from 1; 0: none yet
    value: float = math.nan

    def improves(self, epoch: int, value: float) -> bool:
        """Whether `value` is better by more than `min_delta`; then it is the best."""
        better = not math.isnan(value) and (
            math.isnan(self.value) or self.gain(value, self.value) > self.min_delta
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


class Monitor:
    """Follows one metric from epoch to epoch, and says when to stop."""

    def __init__(self, params: Params) -> None:
        self.best = Best(params.monitor, params.monitor_mode, params.min_delta)
        self.patience = params.patience
        self.first = params.start_from_epoch
        self.good = params.stop_at
        self.bad = params.stop_if_worse_than
        self.reason: str | None = None  # why to stop, once there is a reason

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


class Plateau:
    """Lowers the learning rate when a metric stops improving, between epochs.

    Like `torch.optim.lr_scheduler.ReduceLROnPlateau` with an absolute threshold, but
    `patience: 3` lowers it after exactly three epochs without improvement.
    """

    def __init__(self, params: Params) -> None:
        self.best = Best(params.monitor, params.monitor_mode, params.min_delta)
        self.rate = params.lr
        self.lowest = params.lr_end
        self.factor = params.lr_factor
        self.patience = params.lr_patience
        self.cooldown = params.lr_cooldown
        self.waited = 0  # epochs since the last improvement, fall or cooldown
        self.resting = 0  # epochs of cooldown to come

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
