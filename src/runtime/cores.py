"""Several jobs on one machine: each on its share of the cores, none with other bits.

XLA splits sums among its threads: how many they are decides the bits, not how many
cores they run on. So a job that shares the machine keeps as many threads as it would
have alone. Without `FOURBEAT_JOBS` nothing of this happens.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.errors import ParameterError
from src.storage.atomic import make_folder, storage_errors

JOBS = "FOURBEAT_JOBS"  # how many jobs share this machine
THREADS = "PJRT_NPROC", "NPROC"  # XLA's own, in the order in which it looks at them

_place = -1  # descriptor of the locked file: the place is ours until the process ends
_all: list[int] = []  # the cores before there was a share


def threads() -> int:
    """How many threads XLA computes with on a CPU: sums are split among them."""
    for name in THREADS:
        try:
            return max(int(os.environ.get(name, "")), 0)
        except ValueError:  # so does XLA: what is no number is passed over
            continue
    if hasattr(os, "sched_getaffinity"):  # not everywhere
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share_cores() -> None:
    """Keeps this process and those it starts to one of `FOURBEAT_JOBS` shares.

    To be called before JAX is imported. Where as many jobs run already, nothing is
    kept from this one; nor where processes cannot be bound to cores.

    Raises:
        ParameterError: `FOURBEAT_JOBS` is no number of jobs, or of more than cores.
        StorageError: the file that stands for a place cannot be made.
    """
    global _place, _all
    given = os.environ.get(JOBS)
    if not given or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    jobs = checked_jobs(given, len(cores))
    os.environ["NPROC"] = str(threads())
    for number in range(jobs):
        descriptor = take_place(number)
        if descriptor is not None:
            _place, _all = descriptor, cores
            os.sched_setaffinity(0, share(cores, jobs, number))
            return


@contextmanager
def all_cores() -> Iterator[None]:
    """What is started inside may use all cores again.

    For processes whose bits follow the cores, whatever is said: numpy's products do.
    """
    if not _all:
        yield
        return
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _all)
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def checked_jobs(given: str, cores: int) -> int:
    """The number that `FOURBEAT_JOBS` names.

    Raises:
        ParameterError: it is none from 1 to `cores`.
    """
    jobs = int(given) if given.isascii() and given.isdigit() else 0
    if not 1 <= jobs <= cores:
        raise ParameterError(
            f"{JOBS}: expected an integer from 1 to {cores}, the cores that this "
            f"process may use, got {given[:60]!r}. Give it as many as run at once."
        )
    return jobs


def share(cores: list[int], jobs: int, number: int) -> list[int]:
    """The cores of one job: the shares are disjoint, and together all cores."""
    return cores[number * len(cores) // jobs : (number + 1) * len(cores) // jobs]


def take_place(number: int) -> int | None:
    """The descriptor of a place's locked file; None where another process has it.

    Raises:
        StorageError: the file cannot be made.
    """
    path = Path(tempfile.gettempdir()) / f"fourbeat-{os.getuid()}" / f"place-{number}"
    make_folder(path.parent)
    with storage_errors(path):
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            # The lock goes with the process, however it ends. A process that this one
            # starts does not get the descriptor: it shares the place as it is.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
    return descriptor
