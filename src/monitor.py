"""Which epoch is the best, and when to stop waiting for a better one."""

from dataclasses import dataclass
from typing import Literal

from src.config import MonitorName


@dataclass
class Monitor:
    """Follows one metric from epoch to epoch.

    `patience: 3` stops after three epochs in a row without improvement; an improvement
    is a change for the better by more than `min_delta`.
    """

    name: MonitorName
    mode: Literal["auto", "min", "max"]
    patience: int | None
    min_delta: float
    best_epoch: int = 0  # from 1; 0: none yet
    best_value: float = 0.0
    waited: int = 0  # epochs since the best one

    def improves(self, epoch: int, value: float) -> bool:
        """Whether `value` is the best so far; remembers it, or that it is not."""
        better = self.best_epoch == 0 or self.gain(value) > self.min_delta
        if better:
            self.best_epoch, self.best_value, self.waited = epoch, value, 0
        else:
            self.waited += 1
        return better

    def gain(self, value: float) -> float:
        """By how much `value` is better than the best; negative where it is worse."""
        down = self.mode == "min" or (
            self.mode == "auto" and self.name.endswith("loss")
        )
        return self.best_value - value if down else value - self.best_value

    @property
    def exhausted(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and self.waited >= self.patience
