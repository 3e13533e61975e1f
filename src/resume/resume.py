"""What an interrupted run leaves, so that the next one ends with the very same bits.

Under `.resume/` (or `FOURBEAT_RESUME_DIR`) lies a folder per fingerprint: all that the
bits depend on. In it are the two latest states of training, each a whole file with its
digest in front; beside it, the lock of the process that works there. A run that
succeeds removes its folder, so that `dvc repro -f` trains anew.

Where there is none, but one of the same run on another machine, that one is taken: the
rest is trained as well, though with another rounding.
"""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from flax import nnx

from src.errors import BusyError, DataError
from src.models.checkpoint import Weights, arrays_of
from src.resume.fingerprint import Fingerprint
from src.resume.snapshots import Progress, Saved, Saves, unpack_saved
from src.runtime.processes import all_max, broadcast, is_main_process
from src.sharding import gather
from src.signals import Stopped, pending_signal, record
from src.storage.atomic import make_folder, remove_now, storage_errors
from src.training.events import SavePoint

SECONDS = 1.0  # between two saves at ends of epochs: where these are short
SHARE = 100  # times what a save took must pass before the next: 1 % of the time


class Resume:
    """The folder of one fingerprint, while one process works in it."""

    def __init__(self, name: Fingerprint, save_minutes: float) -> None:
        root = Path(os.environ.get("FOURBEAT_RESUME_DIR", ".resume"))
        self.run = name.run[:16]
        self.folder = root / f"{self.run}-{name.machine[:8]}"
        self.lock = lock_of(self.folder)
        self.saves = Saves(self.folder)
        self.seconds = 60 * save_minutes
        self.saved = time.monotonic()
        self.cost = 0.0  # seconds that the last save took
        self.descriptor = -1  # of the lock, once it is open

    def __enter__(self) -> Self:
        """Takes the folder; process 0 does, if there are several.

        Raises:
            BusyError: another process has it.
            DataError: it is a link to another place.
            StorageError: it cannot be made.
        """
        if not is_main_process():
            return self
        make_folder(self.lock.parent)
        with storage_errors(self.lock):
            self.descriptor = open_lock(self.lock)
        try:
            self.take()
        except BaseException:
            os.close(self.descriptor)
            raise
        return self

    def take(self) -> None:
        """Locks the lock, makes the folder, clears away what a killed process left."""
        with storage_errors(self.lock):
            free = try_lock(self.descriptor)
        if not free:
            owner = os.pread(self.descriptor, 32, 0).decode(errors="replace").strip()
            raise BusyError(
                f"{self.lock}: expected no other process on this run, found process "
                f"{owner}. Wait for it and run again, or stop it. Queued experiments "
                "that train the same at once must not share FOURBEAT_RESUME_DIR."
            )
        if self.folder.is_symlink():
            raise DataError(
                f"{self.folder}: expected a folder of this project's own, found a link "
                "to another place. Remove the link."
            )
        make_folder(self.folder)
        for unfinished in self.folder.glob(".state-*.tmp"):
            remove_now(unfinished)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Gives the folder back; after a success it is gone."""
        if not is_main_process():
            return
        try:
            if kind is None:  # all is written: that something stays is no failure
                # The own one last: who is killed here goes on from it, to its bits.
                for folder in chain(self.elsewhere(), [self.folder]):
                    shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(self.descriptor)

    def keep(self, point: SavePoint, progress: Progress, weights: Weights) -> None:
        """Saves where it is time to; ends the process here after a signal.

        Raises:
            Stopped: a signal came; what can be saved is.
            StorageError: the disk is full, or the folder cannot be written.
        """
        began = time.monotonic()
        pause = SECONDS if point.ends_epoch else self.seconds
        late = is_main_process() and began - self.saved > max(pause, SHARE * self.cost)
        due, number = all_max(late, pending_signal() or 0)
        if number:
            record(number)
        if due or number:
            now = replace(progress, position=point.position)
            self.save(gather(point.state), now, weights)
            all_max(0)  # else a launcher might end the one that still writes
            self.saved = time.monotonic()
            self.cost = self.saved - began
        if number:  # not a signal that has come since: the others do not know of it
            raise Stopped

    def save(self, state: nnx.State, progress: Progress, weights: Weights) -> None:
        """Adds a generation.

        But not once a weight is infinite: training ends soon, from the last save too.
        """
        now = arrays_of(state)  # in each: it may be computed by all
        if not is_main_process():
            return
        trained = (now[name] for name in now if name.startswith(("model.", "ema.")))
        if all(np.isfinite(array).all() for array in trained):
            self.saves.add(now, progress, weights)

    def load(self, template: nnx.State) -> Saved | None:
        """The latest state that is whole, process 0's; None where there is none.

        Args:
            template: a state of the same run; its arrays say what must be there.

        Raises:
            DataError: there are states, and each is damaged.
        """
        content, saved = self.latest(template) if is_main_process() else (b"", None)
        content = broadcast(content)
        if not content:
            return None
        return saved or unpack_saved(self.folder, content, template)

    def latest(self, template: nnx.State) -> tuple[bytes, Saved | None]:
        """The latest state of this folder; where it has none, of another machine's."""
        folder, (content, saved) = self.folder, self.saves.latest(template)
        if not saved:
            folder, content, saved = self.latest_elsewhere(template)
        if saved and (where := saved.progress.position):
            after = (
                f", after {where.step_in_epoch} of its steps"
                if where.step_in_epoch
                else ""
            )
            mixed = (
                f", from {folder}: begun on another machine, or with other devices, "
                "processes or threads, so the last bits will be others. To train anew, "
                "remove it"
            )
            remark = mixed if saved.progress.mixed else ""
            print(f"train: going on in epoch {where.epoch}{after}{remark}", flush=True)  # noqa: T201
        return content, saved

    def latest_elsewhere(self, template: nnx.State) -> tuple[Path, bytes, Saved | None]:
        """The latest state of another machine, and its folder.

        Raises:
            DataError: there are states, and each is damaged.
        """
        damaged = None
        for folder in self.elsewhere():
            try:
                content, saved = Saves(folder).latest(template)
            except DataError as error:
                damaged = error
                continue
            if saved:
                saved.progress.mixed = True
                return folder, content, saved
        if damaged:
            raise damaged
        return self.folder, b"", None

    def elsewhere(self) -> Iterator[Path]:
        """This run's folders of other machines, the latest first, each locked.

        But not those in which a process works, or that are another user's.
        """
        folders = [
            path
            for path in self.folder.parent.iterdir()
            if re.fullmatch(rf"{self.run}-[0-9a-f]{{8}}", path.name)
            and path != self.folder
            and not path.is_symlink()
        ]
        for path in sorted(folders, key=changed, reverse=True):
            with locked(lock_of(path)) as free:
                if free and path.is_dir():
                    yield path


def changed(path: Path) -> int:
    """When, in nanoseconds; 0 where another process has just removed it."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def lock_of(folder: Path) -> Path:
    """Beside the folder and never removed: whoever has it open has the one lock."""
    return folder.with_name(f"{folder.name}.lock")


def open_lock(path: Path) -> int:
    """A descriptor of the lock, which is made where there is none."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)


def try_lock(descriptor: int) -> bool:
    """Locks it while it is open, and says who; whether that could be."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return True


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Tries to hold a lock meanwhile; whether it could."""
    descriptor = -1
    try:
        descriptor = open_lock(path)
        free = try_lock(descriptor)
    except OSError:  # another user's, or a link: whatever it is, not to be touched
        free = False
    try:
        yield free
    finally:
        if descriptor >= 0:
            os.close(descriptor)
