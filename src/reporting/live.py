"""Shows a run while it trains: on a page, and in TensorBoard where that is asked for.

A thread reads the rows of the run's history, so the training loop does nothing for it.
What it writes is no result: training continues if it cannot be written.
"""

import math
import os
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from src import paths
from src.config.params import Params
from src.errors import FourbeatError, StorageError, one_line
from src.reporting.event_file import FOLDER, EventFile
from src.reporting.live_page import (
    LiveRun,
    Moment,
    build_live_page,
    epoch_rows,
    step_rows,
)
from src.runtime.processes import is_main_process
from src.runtime.stage import print_warning
from src.signals import Stopped, pending_signal
from src.storage.atomic import replace_file
from src.training.history import History

PAUSE = 0.5  # seconds; the page reloads every second, so a row is seen within two
RECENT = 20  # updates with new rows, over which the speed is measured
# The page leaves out empty ones.
MAIN_PARAMETERS = (
    *("optimizer", "lr", "schedule", "batch_size", "epochs", "dropout", "weight_decay"),
    *("augment", "init_from", "precision", "seed"),
)


class Sighting(NamedTuple):
    """When the row of a step was seen first."""

    seconds: float  # since this process began to train
    step: int


class Pace:
    """How fast this process takes steps, by the moments at which it saw their rows."""

    def __init__(self, step: int) -> None:
        """Begins after the step of a row that this process has not trained, or 0."""
        self.began = time.monotonic()
        self.step = step
        self.first: Sighting | None = None
        self.recent: deque[Sighting] = deque(maxlen=RECENT)

    def see(self, step: int) -> None:
        """Notes the step of the newest row."""
        if step > self.step:
            self.step = step
            self.recent.append(Sighting(self.seconds(), step))
            self.first = self.first or self.recent[0]

    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def steps_per_second(self) -> float | None:
        """The recent speed, with validation; None before the second sighting."""
        return speed(self.recent[0], self.recent[-1]) if self.recent else None

    def seconds_left(self, steps: int) -> float | None:
        """Seconds to a step at the mean speed; None before the second sighting."""
        if self.first is None:
            return None
        last = self.recent[-1]
        mean = speed(self.first, last)  # without the compilation before the first
        if mean is None:
            return None
        return max(last.seconds + (steps - last.step) / mean - self.seconds(), 0.0)


def speed(first: Sighting, last: Sighting) -> float | None:
    """Steps per second; None if both are one."""
    seconds = last.seconds - first.seconds
    return (last.step - first.step) / seconds if seconds else None


class LiveView:
    """Shows a run, from the main process, while the `with` block runs."""

    def __init__(
        self, params: Params, dataset: str, steps_per_epoch: int, fingerprint: str
    ) -> None:
        """Shows nothing yet.

        Args:
            params: of the run.
            dataset: its name.
            steps_per_epoch: of the run.
            fingerprint: of the run; names its folder in `FOURBEAT_TENSORBOARD`.
        """
        steps = params.epochs * steps_per_epoch
        self.run = LiveRun(
            dataset=dataset,
            model=params.model,
            parameters=main_parameters(params),
            steps_per_epoch=steps_per_epoch,
            batch_size=params.batch_size,
            epochs=params.epochs,
            steps=min(steps, params.max_steps or steps),
        )
        self.max_seconds = 60 * (params.max_minutes or math.inf)
        self.name = f"{params.model}-{fingerprint[:8]}"
        self.history, self.pace, self.state = History(), Pace(0), "training"
        self.page_fails = False
        self.event_file: EventFile | None = None
        self.sent_steps = self.sent_epochs = 0  # rows in the event file
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.keep_updating, daemon=True)

    def __enter__(self) -> Self:
        """Creates the event file, if there is to be one, and the page.

        Raises:
            ParameterError: `FOURBEAT_TENSORBOARD` names no folder that can be written.
        """
        if is_main_process():
            if folder := os.environ.get(FOLDER):
                self.event_file = EventFile(Path(folder) / self.name)
            self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shows the last rows, and how the run ended."""
        if self.thread.is_alive():
            self.state = state_at_end(error)
            self.ending.set()
            self.thread.join()

    def follow(self, history: History) -> None:
        """Shows the rows of this history from now on, those it has included."""
        self.pace = Pace(newest_step(history))
        self.history = history

    def keep_updating(self) -> None:
        """Updates page and event file until the run has ended, and once more then."""
        self.update(ended=False)
        while not self.ending.wait(PAUSE):
            self.update(ended=False)
        self.update(ended=True)
        if self.event_file is not None:
            self.event_file.close()

    def update(self, *, ended: bool) -> None:
        """Writes what there is; warns once of a page or an event file that fails."""
        try:
            replace_file(paths.LIVE, self.page(ended=ended), sync=False)
        except StorageError as error:
            if not self.page_fails:
                print_warning("train", f"{error} Training continues without the page.")
            self.page_fails = True
        if self.event_file is not None:
            try:
                self.add_events(self.event_file)
            except OSError as error:
                with suppress(OSError):
                    self.event_file.close()
                self.event_file = None
                print_warning(
                    "train",
                    f"{FOLDER}: {error.strerror or error}. Training continues without "
                    "the event file.",
                )

    def page(self, *, ended: bool) -> bytes:
        """The page at this moment."""
        history, pace = self.history, self.pace
        pace.see(newest_step(history))
        left = pace.seconds_left(self.run.steps)
        allowed = max(self.max_seconds - pace.seconds(), 0.0)
        moment = Moment(
            state=self.state,
            ended=ended,
            seconds=pace.seconds(),
            steps_per_second=pace.steps_per_second(),
            seconds_left=None if left is None else min(left, allowed),
        )
        return build_live_page(self.run, history, moment)

    def add_events(self, event_file: EventFile) -> None:
        """Adds the rows since the last call to the event file.

        Raises:
            OSError: the disk is full.
        """
        history = self.history
        steps = history.steps[self.sent_steps :]
        epochs = history.epochs[self.sent_epochs :]
        rows = epoch_rows(epochs, self.run.steps_per_epoch, history)
        event_file.add({"steps": step_rows(steps), "history": rows})
        self.sent_steps += len(steps)
        self.sent_epochs += len(epochs)


def newest_step(history: History) -> int:
    """The step of the newest row of steps.csv; 0 if there is none."""
    return int(history.steps[-1][0]) if history.steps else 0


def main_parameters(params: Params) -> dict[str, str]:
    """The main parameters that are not empty, as params.yaml has them."""
    values = params.model_dump(include=set(MAIN_PARAMETERS))
    shown = {}
    for name in MAIN_PARAMETERS:
        value = values[name]
        if isinstance(value, tuple):
            value = f"[{', '.join(map(str, value))}]"
        if value is not None:
            shown[name] = str(value)
    return shown


def state_at_end(error: BaseException | None) -> str:
    """How a run ended.

    Args:
        error: that ended it; None: it succeeded.
    """
    match error:
        case None:
            return "finished"
        case Stopped():
            number = pending_signal()
            signal = f" by {number.name}" if number else ""
            return f"stopped{signal}; resumes if it is started again"
        case FourbeatError():
            return f"failed: {one_line(error)}"
        case Exception():
            return f"failed: {type(error).__name__}: {one_line(error)}"
    return f"stopped by {type(error).__name__}"
