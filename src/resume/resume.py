"""Resuming an interrupted run, with the same bits as an uninterrupted one.

What is saved: a snapshot of the run, see `snapshots.py`. It holds the training state
(model, optimizer, metrics), the position in the epoch, the history, early stopping, and
the best weights so far. The two newest snapshots are kept.

When: after each epoch, at most once a second; within an epoch every `save_minutes`
minutes; and when a signal stops the run. Saving takes at most about 1 % of the time.

Where: `.resume/` (or `FOURBEAT_RESUME_DIR`) has a folder for each fingerprint, and a
lock file next to it. A fingerprint is two digests of all that decides the bits. The
first covers the run: parameters, data, sources, libraries and JAX's environment
variables. The second covers the machine: processor, threads, devices and processes.

Which snapshot is loaded: the newest intact one of the same fingerprint. This machine's
snapshot takes precedence, even over a newer one of another machine. Without one, the
newest snapshot of the same run on another machine is loaded; the results then match up
to rounding. A snapshot of another run is never loaded.

A run that succeeds removes its snapshots, so `dvc repro -f` trains from scratch.
"""

import os
import shutil
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from flax import nnx

from src.errors import DataError
from src.models.architecture import Weights
from src.models.checkpoint import arrays_of
from src.resume.fingerprint import Fingerprint
from src.resume.lock import acquire, build_lock
from src.resume.machines import find_on_other_machines, other_machines
from src.resume.snapshots import (
    FoundSnapshot,
    Snapshot,
    SnapshotFolder,
    TrainingProgress,
    unpack_snapshot,
)
from src.runtime.processes import all_max, broadcast, is_main_process
from src.signals import Stopped, pending_signal, record
from src.storage.atomic import make_folder, remove_path
from src.training.events import SavePoint

EPOCH_PAUSE = 1.0  # seconds between saves at the ends of epochs, at least
COST_FACTOR = 100  # the pause is at least 100 times as long as the last save took


class Resume:
    """The snapshots of one run, locked while the `with` block runs.

    With several processes, process 0 locks, reads and writes; the others take part in
    `load`, `save` and `maybe_save`.
    """

    def __init__(self, name: Fingerprint, save_minutes: float) -> None:
        root = Path(os.environ.get("FOURBEAT_RESUME_DIR", ".resume"))
        self.folder = root / f"{name.run[:16]}-{name.machine[:8]}"
        self.lock = build_lock(self.folder)
        self.snapshots = SnapshotFolder(self.folder)
        self.pause = 60 * save_minutes  # seconds between saves within an epoch
        self.last_save = time.monotonic()
        self.save_seconds = 0.0  # duration of the last save

    def __enter__(self) -> Self:
        """Locks the run, makes its folder, and removes what a killed process left.

        Raises:
            BusyError: another process has locked the run.
            DataError: the folder is a link.
            StorageError: the folder or the lock file cannot be made.
        """
        if not is_main_process():
            return self
        make_folder(self.folder.parent)
        acquire(self.lock)
        try:
            self.prepare_folder()
        except BaseException:
            self.lock.release()
            raise
        return self

    def prepare_folder(self) -> None:
        """Makes the folder; removes the unfinished files of a killed process.

        Raises:
            DataError: the folder is a link.
            StorageError: the folder cannot be made.
        """
        if self.folder.is_symlink():
            raise DataError(
                f"{self.folder}: expected a folder, found a link. Remove the link."
            )
        make_folder(self.folder)
        for unfinished in self.folder.glob(".state-*.tmp"):
            remove_path(unfinished)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Unlocks the run; after a success, removes its snapshots first."""
        if not is_main_process():
            return
        try:
            if kind is None:  # all results are written, so a failure here is ignored
                # This machine's last: a process that is killed here resumes from it.
                for folder in chain(other_machines(self.folder), [self.folder]):
                    shutil.rmtree(folder, ignore_errors=True)
        finally:
            self.lock.release()

    def maybe_save(
        self, point: SavePoint, progress: TrainingProgress, best: Weights
    ) -> None:
        """Saves if it is time to; after a signal, saves and ends the run.

        Args:
            point: the state to save and its position.
            progress: of the run; its position is replaced by the point's.
            best: the weights of the best epoch.

        Raises:
            Stopped: a signal came; the snapshot is written.
            StorageError: the disk is full, or the folder is not writable.
        """
        began = time.monotonic()
        pause = EPOCH_PAUSE if point.ends_epoch else self.pause
        pause = max(pause, COST_FACTOR * self.save_seconds)
        late = is_main_process() and began - self.last_save > pause
        due, signal_number = all_max(late, pending_signal() or 0)
        if signal_number:
            record(signal_number)
        if due or signal_number:
            progress = replace(progress, position=point.position)
            self.save(point.state, progress, best)
            # Barrier: otherwise a launcher may end process 0 while it still writes.
            all_max(0)
            self.last_save = time.monotonic()
            self.save_seconds = self.last_save - began
        # Only a signal that all processes know of: not one that came since.
        if signal_number:
            raise Stopped

    def save(self, state: nnx.State, progress: TrainingProgress, best: Weights) -> None:
        """Writes a snapshot, unless a weight of the model is not finite.

        Such a run is about to diverge, and would do so again from this snapshot.

        Args:
            state: of the `TrainState`.
            progress: with the position of this state.
            best: the weights of the best epoch.

        Raises:
            StorageError: the disk is full, or the folder is not writable.
        """
        if not is_main_process():
            return
        arrays = arrays_of(state)
        trained = (
            array
            for name, array in arrays.items()
            if name.startswith(("model.", "ema."))
        )
        if all(np.isfinite(array).all() for array in trained):
            self.snapshots.add(arrays, progress, best)

    def load(self, template: nnx.State) -> Snapshot | None:
        """Loads process 0's newest snapshot on all processes; None if it has none.

        Prints where training resumes, and a line for each damaged snapshot.

        Args:
            template: a state of the same run, with the expected arrays.

        Raises:
            DataError: there are snapshots, and all are damaged.
        """
        found = self.load_newest(template) if is_main_process() else None
        content = broadcast(found.content if found else b"")
        if found:
            return found.snapshot
        return unpack_snapshot(self.folder, content, template) if content else None

    def load_newest(self, template: nnx.State) -> FoundSnapshot | None:
        """Loads this machine's newest snapshot, or else another machine's.

        Raises:
            DataError: there are snapshots, and all are damaged.
        """
        folder, found = self.folder, self.snapshots.find_newest(template)
        if found:
            self.snapshots.set_aside_after(found.number)
        elif other := find_on_other_machines(self.folder, template):
            folder, found = other
        if found:
            print(resuming_line(found.snapshot.progress, folder), flush=True)  # noqa: T201
        return found


def resuming_line(progress: TrainingProgress, folder: Path) -> str:
    """Where training resumes, and whether the snapshot is another machine's."""
    line = "train: resuming"
    if where := progress.position:
        line += f" in epoch {where.epoch}"
        line += (
            f", after {where.step_in_epoch} of its steps" if where.step_in_epoch else ""
        )
    if progress.from_other_machine:
        line += (
            f", from {folder}: begun on another machine, or with other devices, "
            "processes or threads, so results match up to rounding. To train from "
            "scratch, remove it"
        )
    return line
