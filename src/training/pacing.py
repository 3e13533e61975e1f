"""How many steps a chunk takes, and what ends training within an epoch."""

import math
import sys
import time

from src.config.params import Params
from src.runtime.processes import all_max

SHORT, LONG = 0.5, 1.0  # seconds; a signal waits for the end of a chunk


def next_multiple(number: int, of: int) -> int:
    """The smallest multiple of `of` that is > `number`."""
    return (number // of + 1) * of


class ChunkSizer:
    """Chooses chunk lengths of about a second: signals are handled between chunks."""

    def __init__(self) -> None:
        self.steps = 1
        self.compiled = False

    def chunk_end(self, start: int, limit: int) -> int:
        """Where a chunk from `start` ends, <= `limit`; the same in all processes."""
        (steps,) = all_max(self.steps)
        return min(start + steps, limit)

    def update(self, taken: int, seconds: float) -> None:
        """Adapts the length to the time that a chunk of `taken` steps took."""
        if seconds < SHORT and taken == self.steps:
            self.steps *= 2
        elif seconds > LONG and self.compiled:  # the first chunk's time is compilation
            self.steps = max(taken // 2, 1)
        self.compiled = True


class Budget:
    """The limits `max_steps` and `max_minutes`."""

    def __init__(self, params: Params) -> None:
        self.max_steps = params.max_steps or sys.maxsize
        self.max_minutes = params.max_minutes or math.inf
        self.began = time.monotonic()
        self.exhausted: str | None = None  # which limit was reached

    def update(self, steps: int) -> None:
        """Checks both limits after `steps` steps since training began."""
        if steps >= self.max_steps:
            self.exhausted = f"max_steps: {self.max_steps}"
        elif self.is_late():
            self.exhausted = f"max_minutes: {self.max_minutes:g}"

    def is_late(self) -> bool:
        """Whether the time is up in any process."""
        if math.isinf(self.max_minutes):
            return False
        (late,) = all_max(time.monotonic() - self.began > 60 * self.max_minutes)
        return bool(late)
