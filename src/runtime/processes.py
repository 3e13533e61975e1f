"""Several processes that train one network: who they are, and what they agree on.

Each runs the same program. JAX's own runtime joins them; process 0 alone writes. All
that decides what is computed next must be the same in all of them, so what only one
can know - a signal, the time - goes through `agree` or `share` first.
"""

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeVar

from src.errors import ParameterError, StorageError
from src.runtime.cores import threads

Tree = TypeVar("Tree")

COORDINATOR, PROCESSES, PROCESS_ID = (
    f"FOURBEAT_{name}" for name in ("COORDINATOR", "PROCESSES", "PROCESS_ID")
)
# Where a launcher says how many it started; the rest JAX finds out by itself.
LAUNCHERS = "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"
HEARTBEAT_SECONDS = 10  # without a sign of life, after which a process is given up
JOIN_SECONDS = 300  # to wait for the others at the start
LAST_SECONDS = 2  # that process 0 stays while the others end

# A status of JAX's runtime, and what of it says that another process is gone.
LOST = re.compile(
    r"(UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED): |"
    r"[A-Z_]+: .*(gloo|nccl|connection|heartbeat|coordination)",
    re.IGNORECASE | re.DOTALL,
)

_place = 0, 1  # this process's number, and how many there are


def init_distributed() -> None:
    """Joins the others, if the environment says that there are any.

    Before anything is computed. `FOURBEAT_COORDINATOR` (host:port of process 0),
    `FOURBEAT_PROCESSES` and `FOURBEAT_PROCESS_ID` say it, or a launcher that JAX knows.

    Raises:
        ParameterError: one of the three is missing or wrong.
        StorageError: the others cannot be reached.
    """
    global _place
    told = read_environment(os.environ)
    if not several(told):
        return
    share_threads(os.environ, told)
    import jax

    where, count, number = told or (None, None, None)
    place = where or "the launcher's address"
    line = f"waiting for the others at {place}, {JOIN_SECONDS} s at most"
    print(line, flush=True)  # noqa: T201
    # Its handler of SIGTERM would take the place of ours.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            where,
            count,
            number,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
        _place = jax.process_index(), jax.process_count()
    except (RuntimeError, ValueError) as error:
        words = " ".join(str(error).split())[:200]
        raise StorageError(
            f"{where or 'the launcher'}: expected to join the other processes, found: "
            f"{words}. Check that all were started, that the port is free, and that "
            "the network lets them in."
        ) from None


def read_environment(variables: Mapping[str, str]) -> tuple[str, int, int] | None:
    """Coordinator, how many processes, and which one this is; None where none is said.

    Raises:
        ParameterError: only some of the variables are there, or one is wrong.
    """
    names = COORDINATOR, PROCESSES, PROCESS_ID
    given = [variables.get(name, "") for name in names]
    if not any(given):
        return None
    where, count, number = given
    host, _, port = where.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise wrong(COORDINATOR, "host:port of process 0", where)
    if not (count.isdecimal() and int(count) > 0):
        raise wrong(PROCESSES, "how many processes there are", count)
    if not (number.isdecimal() and int(number) < int(count)):
        raise wrong(PROCESS_ID, f"a number from 0 to {int(count) - 1}", number)
    return where, int(count), int(number)


def several(told: tuple[str, int, int] | None) -> bool:
    """Whether there are others, by the variables or by a launcher."""
    return told[1] > 1 if told else launched(os.environ)


def launched(variables: Mapping[str, str]) -> bool:
    """Whether a launcher that JAX knows has started several processes."""
    counts = (variables.get(name, "") for name in LAUNCHERS)
    if any(count.isdecimal() and int(count) > 1 for count in counts):
        return True
    # In an indexed job of Kubernetes JAX asks the cluster, by this package.
    return "JOB_COMPLETION_INDEX" in variables and bool(find_spec("kubernetes"))


def check_alone() -> None:
    """Raises ParameterError where this process is to be one of several."""
    if several(read_environment(os.environ)):
        raise ParameterError(
            f"{PROCESSES}: expected one process, found several started: only "
            f"stages.train divides its work. Start this one alone."
        )


def check_same(name: str) -> None:
    """Raises ParameterError where this process is to compute another run than the rest.

    Args:
        name: of all that decides the run: equal in every process.
    """
    if broadcast(name.encode()) != name.encode():
        raise ParameterError(
            "expected the run of process 0, found another commit, params.yaml, "
            "data/prepared, library, kind of processor, number of threads, or JAX_ or "
            "XLA_ variable here. Make all of them equal."
        )


def share_threads(
    variables: MutableMapping[str, str], told: tuple[str, int, int] | None
) -> None:
    """Divides the threads among the processes on one machine, where that is known.

    Each would take all, and they would wait for each other's. A launcher that binds
    processes to cores has done it; so has who set `NPROC`, which XLA reads.
    """
    here = variables.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1")
    together = int(here) if here.isdecimal() else 1
    if told and told[0].rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]"):
        together = told[1]
    cores = os.cpu_count() or 1
    if together > 1 and threads() == cores:
        variables.setdefault("NPROC", str(max(cores // together, 1)))


def wrong(name: str, expected: str, found: str) -> ParameterError:
    """What to tell who started the processes."""
    return ParameterError(
        f"{name}: expected {expected}, found {found[:60]!r}. Set {COORDINATOR}, "
        f"{PROCESSES} and {PROCESS_ID} for each process, or none of them."
    )


def is_main_process() -> bool:
    """Whether this is process 0, which alone reads and writes what is saved."""
    return _place[0] == 0


def is_single_process() -> bool:
    """Whether there is no other process."""
    return _place[1] == 1


def described() -> str:
    """`process 1 of 2`, counted from 0."""
    return f"process {_place[0]} of {_place[1]}"


def all_max(*numbers: int) -> list[int]:
    """The largest of each number among all processes; each must ask.

    Args:
        numbers: below 2^31.
    """
    if is_single_process():
        return list(numbers)
    import numpy as np
    from jax.experimental import multihost_utils

    gathered = multihost_utils.process_allgather(np.array(numbers, np.int32))
    largest: list[int] = np.asarray(gathered).max(0).tolist()
    return largest


def broadcast(content: bytes) -> bytes:
    """What process 0 has, in every process; each must ask."""
    if is_single_process():
        return content
    import numpy as np
    from jax.experimental import multihost_utils

    high, low = all_max(*divmod(len(content) if is_main_process() else 0, 1 << 30))
    buffer = np.zeros((high << 30) + low, np.uint8)
    if is_main_process():
        buffer[:] = np.frombuffer(content, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(buffer)).tobytes()


def broadcast_arrays(tree: Tree) -> Tree:
    """Arrays as process 0 has them: others' processors may round otherwise."""
    if is_single_process():
        return tree
    from jax.experimental import multihost_utils

    shared: Tree = multihost_utils.broadcast_one_to_all(tree)
    return shared


@contextmanager
def losses_reported() -> Iterator[None]:
    """Turns what JAX says when another process is gone into one line.

    Raises:
        StorageError: another process ended, or cannot be reached.
    """
    try:
        yield
    except Exception as error:
        if is_single_process() or not from_runtime(error):
            raise
        words = " ".join(str(error).split())[:160]
        raise StorageError(
            f"expected all processes at work, found one gone ({words}). "
            "Start all of them again: training goes on from its last save."
        ) from None


def from_runtime(error: Exception) -> bool:
    """Whether JAX's runtime raised it over a message that did not come through.

    In the middle of a call it comes as a ValueError: `UNKNOWN: Gloo AllGather failed`.
    """
    raised = isinstance(error, ValueError) or type(error).__name__ == "JaxRuntimeError"
    return raised and bool(re.match(LOST, str(error)))


def exit_group(code: int) -> None:
    """Ends this process where others would be waited for, else does nothing.

    Not before the others have what it said last: its connections close with it. And
    without process 0, which leaves last, JAX's runtime aborts those that are left. Only
    who has lost another, or is about to be lost, has nobody to wait for.
    """
    if not is_single_process():
        sys.stdout.flush()
        sys.stderr.flush()
        if code != StorageError.exit_code:
            time.sleep(LAST_SECONDS if is_main_process() else LAST_SECONDS / 4)
        os._exit(code)
