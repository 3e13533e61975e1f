"""Progress on the terminal while training."""

import math
import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm

from src.runtime.processes import is_main_process
from src.training.events import EpochEnd, LogRow, TrainMetrics


class ProgressBar:
    """A progress bar on a terminal, and a line per epoch everywhere."""

    def __init__(self, epochs: int, steps_per_epoch: int) -> None:
        self.epochs = epochs
        self.loss_scale = 1.0  # after the last event
        self.bar = tqdm(
            total=epochs * steps_per_epoch,
            unit="step",
            disable=not (sys.stderr.isatty() and is_main_process()),
            leave=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.close()

    def show(self, event: LogRow | EpochEnd) -> None:
        """Moves the bar; prints a line per epoch and per row with skipped steps.

        With several processes only the main process prints.
        """
        if not is_main_process():
            return
        if isinstance(event, LogRow):
            self.bar.update(event.step - self.bar.n)
            if event.skipped:
                numbers = ", ".join(map(str, event.skipped_steps))
                halved = f"; each halved the loss scale, now {event.loss_scale:g}"
                changed = halved if event.loss_scale != self.loss_scale else ""
                line = f"not finite, skipped: step {numbers}{changed}"
                self.bar.write(line, file=sys.stdout)
            self.loss_scale = event.loss_scale
            return
        result = event.result
        train = result.train or TrainMetrics(math.nan, math.nan)
        line = (
            f"epoch {result.epoch:>{len(str(self.epochs))}}/{self.epochs}"
            f"  loss {train.loss:.4f}  accuracy {train.accuracy:.4f}"
            f"  validation loss {result.validation.loss:.4f}"
            f"  accuracy {result.validation.accuracy:.4f}  lr {result.lr:.2e}"
        )
        self.bar.write(line, file=sys.stdout)
