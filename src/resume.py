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
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from flax import nnx

from src.checkpoint import Weights, arrays_of
from src.devices import whole
from src.errors import BusyError, DataError, StorageError
from src.events import Point
from src.fingerprint import Fingerprint
from src.interrupt import Stopped, receive, received
from src.processes import agree, leads, share
from src.saves import Progress, Saved, Saves, unpack_saved
from src.storage import explained, make_folder, remove_now

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
        if not leads():
            return self
        make_folder(self.lock.parent)
        with explained(self.lock):
            self.descriptor = open_lock(self.lock)
        try:
            self.take()
        except BaseException:
            os.close(self.descriptor)
            raise
        return self

    def take(self) -> None:
        """Locks the lock, makes the folder, clears away what a killed process left."""
        if not locks(self.descriptor):
            owner = os.pread(self.descriptor, 32, 0).decode(errors="replace").strip()
            raise BusyError(
                f"{self.lock}: expected no other process on this run, found process "
                f"{owner}. Wait for it and run again, or stop it. Queued experiments "
                "that train the same at once must not share FOURBEAT_RESUME_DIR."
            )
        with explained(self.lock):
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, str(os.getpid()).encode(), 0)
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
        if not leads():
            return
        if kind is None:  # all is written: what cannot be removed does no harm
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(StorageError):
                for folder in self.elsewhere():  # else the next run would go on there
                    shutil.rmtree(folder, ignore_errors=True)
        os.close(self.descriptor)

    def keep(self, point: Point, progress: Progress, weights: Weights) -> None:
        """Saves where it is time to; ends the process here after a signal.

        Raises:
            Stopped: a signal came; what can be saved is.
            StorageError: the disk is full, or the folder cannot be written.
        """
        began = time.monotonic()
        pause = SECONDS if point.ends_epoch else self.seconds
        late = leads() and began - self.saved > max(pause, SHARE * self.cost)
        due, number = agree(late, received() or 0)
        if number:
            receive(number)
        if due or number:
            now = replace(progress, position=point.position)
            self.save(whole(point.state), now, weights)
            agree(0)  # else a launcher might end the one that still writes
            self.saved = time.monotonic()
            self.cost = self.saved - began
        if number:  # not a signal that has come since: the others do not know of it
            raise Stopped

    def save(self, state: nnx.State, progress: Progress, weights: Weights) -> None:
        """Adds a generation.

        But not once a weight is infinite: training ends soon, from the last save too.
        """
        now = arrays_of(state)  # in each: it may be computed by all
        if not leads():
            return
        trained = (now[name] for name in now if name.startswith(("model.", "average.")))
        if all(np.isfinite(array).all() for array in trained):
            self.saves.add(now, progress, weights)

    def load(self, template: nnx.State) -> Saved | None:
        """The latest state that is whole, process 0's; None where there is none.

        Args:
            template: a state of the same run; its arrays say what must be there.

        Raises:
            DataError: there are states, and each is damaged.
        """
        content, saved = self.latest(template) if leads() else (b"", None)
        content = share(content)
        if not content:
            return None
        return saved or unpack_saved(self.folder, content, template)

    def latest(self, template: nnx.State) -> tuple[bytes, Saved | None]:
        """The latest state of this folder; where it has none, of another machine's."""
        content, saved = self.saves.latest(template)
        origin = ""
        for folder in () if saved else self.elsewhere():
            content, saved = Saves(folder).latest(template)
            origin = (
                f", from {folder} and so from other devices or another number of "
                "threads: the last bits will be others. To train anew, remove it"
            )
            if saved:
                break
        if saved and (where := saved.progress.position):
            after = f", after {where.taken} of its steps" if where.taken else ""
            print(f"train: going on in epoch {where.epoch}{after}{origin}", flush=True)  # noqa: T201
        return content, saved

    def elsewhere(self) -> Iterator[Path]:
        """This run's folders of other machines, the latest first, each locked.

        But not those in which a process works.
        """
        with explained(self.folder.parent):
            times = {
                path: path.stat().st_mtime_ns
                for path in self.folder.parent.glob(f"{self.run}-*")
                if path != self.folder and path.is_dir() and not path.is_symlink()
            }
        for path in sorted(times, key=lambda path: -times[path]):
            with locked(lock_of(path)) as free:
                if free:
                    yield path


def lock_of(folder: Path) -> Path:
    """Beside the folder and never removed: whoever has it open has the one lock."""
    return folder.with_name(f"{folder.name}.lock")


def open_lock(path: Path) -> int:
    """A descriptor of the lock, which is made where there is none."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)


def locks(descriptor: int) -> bool:
    """Whether it could be locked: until it is closed, or this process ends."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Tries to hold a lock meanwhile; whether it could.

    Raises:
        StorageError: it cannot be opened.
    """
    with explained(path):
        descriptor = open_lock(path)
    try:
        yield locks(descriptor)
    finally:
        os.close(descriptor)
