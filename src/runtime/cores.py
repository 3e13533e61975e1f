"""Divides the cores among the jobs on one machine; results stay bit-identical.

XLA splits sums among its threads, so the number of threads decides the bits. The number
of cores does not. A job on a share of the cores keeps as many threads as on all cores.
Without `FOURBEAT_JOBS`, no job is bound to a share.
"""

import fcntl
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from src.errors import ParameterError
from src.storage.atomic import make_folder, storage_errors

JOBS = "FOURBEAT_JOBS"  # the number of jobs that share this machine
THREADS = "PJRT_NPROC", "NPROC"  # XLA's variables, in the order in which it reads them


def threads() -> int:
    """The number of threads that XLA computes with on a CPU."""
    for name in THREADS:
        try:
            return max(int(os.environ.get(name, "")), 0)
        except ValueError:  # XLA also skips a value that is not a number
            continue
    return len(available_cores()) or os.cpu_count() or 1


def available_cores() -> frozenset[int]:
    """The cores that this process may use; empty where the system cannot tell."""
    if not hasattr(os, "sched_getaffinity"):
        return frozenset()
    return frozenset(os.sched_getaffinity(0))


def share_cores() -> None:
    """Binds this process and its children to one of `FOURBEAT_JOBS` shares of cores.

    Call it before JAX is imported. Without the variable, without a free share, and
    where the system cannot bind processes to cores, nothing changes.

    Raises:
        ParameterError: `FOURBEAT_JOBS` is not an integer in [1, number of cores].
        StorageError: the lock file of a share cannot be created.
    """
    given, cores = os.environ.get(JOBS), sorted(available_cores())
    if not given or not cores:
        return
    jobs = checked_jobs(given, len(cores))
    os.environ["NPROC"] = str(threads())
    for number in range(jobs):
        if try_lock_share(number):
            os.sched_setaffinity(0, share(cores, jobs, number))
            return


@contextmanager
def bound_to(cores: Collection[int]) -> Iterator[None]:
    """Binds this process to other cores inside the block; nothing if `cores` is empty.

    Processes started inside inherit them. Numpy's products depend on their number.
    """
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def checked_jobs(given: str, cores: int) -> int:
    """The number of jobs in `FOURBEAT_JOBS`.

    Raises:
        ParameterError: it is not an integer in [1, cores].
    """
    jobs = int(given) if given.isascii() and given.isdigit() else 0
    if not 1 <= jobs <= cores:
        raise ParameterError(
            f"{JOBS}: expected an integer in [1, {cores}], the cores that this process "
            f"may use, found {given[:60]!r}. Set it to the number of jobs at a time."
        )
    return jobs


def share(cores: list[int], jobs: int, number: int) -> list[int]:
    """The cores of one job. The shares are disjoint and cover all cores."""
    return cores[number * len(cores) // jobs : (number + 1) * len(cores) // jobs]


def try_lock_share(number: int) -> bool:
    """Locks a share until this process ends; False if another process has it.

    Raises:
        StorageError: the lock file cannot be created.
    """
    path = Path(tempfile.gettempdir()) / f"fourbeat-{os.getuid()}" / f"share-{number}"
    make_folder(path.parent)
    with storage_errors(path):
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            # Never closed: the lock ends with the process, however it ends. Children
            # do not inherit the descriptor. Not filelock's: its lock ends with the
            # object.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
    return True
