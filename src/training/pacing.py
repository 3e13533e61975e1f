"""How many steps training takes before Python looks up, and what ends it early."""

import math
import sys
import time

from src.config.params import Params
from src.runtime.processes import all_max


def next_multiple(number: int, of: int) -> int:
    """The next larger multiple."""
    return (number // of + 1) * of


class ChunkSizer:
    """How many steps take about a second: so long a signal may have to wait."""

    def __init__(self) -> None:
        self.steps = 1
        self.began = 0.0
        self.first = True  # compiles: its time says nothing

    def stop(self, start: int, end: int) -> int:
        """Where to look up again on the way from `start` to `end`."""
        self.began = time.monotonic()
        (steps,) = all_max(self.steps)
        return min(start + steps, end)

    def learn(self, taken: int) -> None:
        """Takes more or fewer steps next time, by how long `taken` of them took."""
        seconds = time.monotonic() - self.began
        if seconds < 0.5 and taken == self.steps:
            self.steps *= 2
        elif seconds > 1 and not self.first:
            self.steps = max(taken // 2, 1)
        self.first = False


class Budget:
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
        (late,) = all_max(time.monotonic() - self.began > 60 * self.minutes)
        return bool(late)
