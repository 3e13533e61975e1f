"""The lock of a run's folder: only one process trains a run at a time.

The operating system holds the lock and frees it when the process ends, however it ends.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from src.errors import BusyError
from src.storage.atomic import storage_errors


def lock_path(folder: Path) -> Path:
    """The lock file next to a folder.

    It is never removed: two processes could otherwise lock two files of this name.
    """
    return folder.with_name(f"{folder.name}.lock")


def build_lock(folder: Path) -> FileLock:
    """The lock of a folder, not acquired yet."""
    return FileLock(
        lock_path(folder),
        blocking=False,
        thread_local=False,
        preserve_lock_file=True,
        on_acquired=write_process_id,
    )


def write_process_id(descriptor: int) -> None:
    """Writes this process's number into its lock file, for others' messages."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def acquire(lock: FileLock) -> None:
    """Acquires the lock of a run.

    Raises:
        BusyError: another process holds it.
        StorageError: the lock file cannot be made, or is a link.
    """
    path = Path(lock.lock_file)
    with storage_errors(path):
        try:
            lock.acquire()
        except Timeout:
            owner = path.read_bytes()[:32].decode(errors="replace").strip()
            raise BusyError(
                f"{path}: expected no other process on this run, found process "
                f"{owner}. Wait for it and run again, or stop it. Queued experiments "
                "with the same parameters must not share FOURBEAT_RESUME_DIR."
            ) from None


@contextmanager
def try_lock(folder: Path) -> Iterator[bool]:
    """Locks a folder during the block if that is possible; whether it is locked."""
    lock = build_lock(folder)
    with suppress(OSError):  # another process or user has it, or it is a link
        lock.acquire()
    try:
        yield lock.is_locked
    finally:
        lock.release()
