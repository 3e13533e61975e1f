"""Several processes that train one network.

All run the same program, and JAX's runtime connects them. Process 0 alone writes files.
Every decision must be the same in all processes. So what one process alone knows, such
as a signal or the time, goes through `all_max` or `broadcast` first.
"""

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from src.errors import ParameterError, StorageError
from src.runtime.launch import has_peers, read_environment, share_threads
from src.storage.reading import digest

Tree = TypeVar("Tree")

HEARTBEAT_SECONDS = 10  # without a heartbeat for so long, a process counts as lost
JOIN_SECONDS = 300  # to wait for the other processes at the start
EXIT_SECONDS = 2  # that process 0 waits while the other processes exit

# Errors of JAX's runtime that mean that another process is gone.
PEER_LOST = re.compile(
    r"(UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED): |"
    r"[A-Z_]+: .*(gloo|nccl|connection|heartbeat|coordination)",
    re.IGNORECASE | re.DOTALL,
)


@dataclass
class ProcessGroup:
    """The position of this process among all that train one network."""

    index: int = 0
    count: int = 1


# A process joins JAX's runtime once and for good, so there is one group. JAX itself
# cannot be asked: `jax.process_index()` imports JAX and starts its backends, even in
# the error path of a process that could not join.
PROCESS_GROUP = ProcessGroup()


def init_distributed() -> None:
    """Joins the other processes, if the environment names any.

    Call it before any computation. The environment holds `FOURBEAT_COORDINATOR`
    (host:port of process 0), `FOURBEAT_PROCESSES` and `FOURBEAT_PROCESS_ID`, or the
    variables of a launcher that JAX knows.

    Raises:
        ParameterError: one of the three variables is missing or wrong.
        StorageError: the other processes cannot be reached.
    """
    settings = read_environment(os.environ)
    if not has_peers(settings):
        return
    share_threads(os.environ, settings)
    import jax

    where, count, number = settings or (None, None, None)
    address = where or "the launcher's address"
    line = f"waiting up to {JOIN_SECONDS} s for the other processes at {address}"
    print(line, flush=True)  # noqa: T201
    # JAX's preemption service would replace our SIGTERM handler.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            where,
            count,
            number,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
        PROCESS_GROUP.index, PROCESS_GROUP.count = (
            jax.process_index(),
            jax.process_count(),
        )
    except (RuntimeError, ValueError) as error:
        words = " ".join(str(error).split())[:200]
        raise StorageError(
            f"{where or 'the launcher'}: expected to join the other processes, found: "
            f"{words}. Check that all were started, that the port is free, and that "
            "the network lets them in."
        ) from None


def check_same(fingerprint: str) -> None:
    """Raises ParameterError if process 0 has a different fingerprint.

    Args:
        fingerprint: of all that decides the run's bits.
    """
    own = fingerprint.encode()
    first = broadcast(own)
    if first != own:
        raise ParameterError(
            f"expected the run of process 0 ({digest(first)[:12]}...), found run "
            f"{digest(own)[:12]}...: commit, params.yaml, data/prepared, library, "
            "processor, number of threads, or a JAX_ or XLA_ variable differs. Make "
            "all of them equal."
        )


def is_main_process() -> bool:
    """Whether this is process 0, which alone reads and writes snapshots."""
    return PROCESS_GROUP.index == 0


def is_single_process() -> bool:
    """Whether there is no other process."""
    return PROCESS_GROUP.count == 1


def process_name() -> str:
    """`process 1 of 2`, counted from 0."""
    return f"process {PROCESS_GROUP.index} of {PROCESS_GROUP.count}"


def all_max(*numbers: int) -> list[int]:
    """The maximum of each number over all processes; all of them must call it.

    Args:
        numbers: integers in [-2^31, 2^31).
    """
    if is_single_process():
        return list(numbers)
    import numpy as np
    from jax.experimental import multihost_utils

    gathered = multihost_utils.process_allgather(np.array(numbers, np.int32))
    largest: list[int] = np.asarray(gathered).max(0).tolist()
    return largest


def broadcast(content: bytes) -> bytes:
    """The content of process 0; all processes must call it."""
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
    """The arrays of process 0: other processors may have rounded differently."""
    if is_single_process():
        return tree
    from jax.experimental import multihost_utils

    shared: Tree = multihost_utils.broadcast_one_to_all(tree)
    return shared


@contextmanager
def peer_errors() -> Iterator[None]:
    """Turns JAX's errors about a lost process into a StorageError.

    Raises:
        StorageError: another process has ended or cannot be reached.
    """
    try:
        yield
    except Exception as error:
        if is_single_process() or not is_peer_error(error):
            raise
        words = " ".join(str(error).split())[:160]
        raise StorageError(
            f"expected all processes to run, found one lost ({words}). Start all of "
            "them again: training resumes from the last snapshot."
        ) from None


def is_peer_error(error: Exception) -> bool:
    """Whether JAX's runtime raised the error because a message failed.

    Within a call, JAX raises a ValueError: `UNKNOWN: Gloo AllGather failed`.
    """
    raised = isinstance(error, ValueError) or type(error).__name__ == "JaxRuntimeError"
    return raised and bool(PEER_LOST.match(str(error)))


def exit_group(code: int) -> None:
    """Ends this process at once if it is one of several; otherwise does nothing.

    A normal exit would wait for the other processes. Each waits here until the others
    have received its last message, and process 0 exits last: without it, JAX's runtime
    aborts the rest. After a StorageError the group is broken, so none waits.
    """
    if not is_single_process():
        sys.stdout.flush()
        sys.stderr.flush()
        if code != StorageError.exit_code:
            time.sleep(EXIT_SECONDS if is_main_process() else EXIT_SECONDS / 4)
        os._exit(code)
