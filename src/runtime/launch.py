"""How many processes train together, by the environment or by a launcher."""

import os
from collections.abc import Mapping, MutableMapping
from importlib.util import find_spec

from src.errors import ParameterError
from src.runtime.cores import threads

COORDINATOR, PROCESSES, PROCESS_ID = (
    f"FOURBEAT_{name}" for name in ("COORDINATOR", "PROCESSES", "PROCESS_ID")
)
# Launchers' variables for the number of processes; JAX detects the rest.
LOCAL_HOSTS = "localhost", "127.0.0.1", "[::1]"
LAUNCHERS = "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"

Settings = tuple[str, int, int]  # coordinator, number of processes, index of this one


def read_environment(variables: Mapping[str, str]) -> Settings | None:
    """Coordinator, number of processes and index of this one; None if none is set.

    Raises:
        ParameterError: only some of the variables are set, or one is wrong.
    """
    names = COORDINATOR, PROCESSES, PROCESS_ID
    given = [variables.get(name, "") for name in names]
    if not any(given):
        return None
    where, count, number = given
    host, _, port = where.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise wrong_variable(COORDINATOR, "host:port of process 0", where)
    if not (count.isdecimal() and int(count) > 0):
        raise wrong_variable(PROCESSES, "an integer >= 1", count)
    if not (number.isdecimal() and int(number) < int(count)):
        raise wrong_variable(PROCESS_ID, f"an integer in [0, {int(count) - 1}]", number)
    return where, int(count), int(number)


def has_peers(settings: Settings | None) -> bool:
    """Whether there are other processes, by the variables or by a launcher."""
    return settings[1] > 1 if settings else launched(os.environ)


def launched(variables: Mapping[str, str]) -> bool:
    """Whether a launcher that JAX knows has started several processes."""
    counts = (variables.get(name, "") for name in LAUNCHERS)
    if any(count.isdecimal() and int(count) > 1 for count in counts):
        return True
    # In an indexed Kubernetes job, JAX asks the cluster through this package.
    return "JOB_COMPLETION_INDEX" in variables and bool(find_spec("kubernetes"))


def check_alone() -> None:
    """Raises ParameterError if this is one of several processes."""
    if has_peers(read_environment(os.environ)):
        raise ParameterError(
            f"{PROCESSES}: expected one process, found several: only stages.train "
            "divides its work. Start this command once."
        )


def share_threads(
    variables: MutableMapping[str, str], settings: Settings | None
) -> None:
    """Sets `NPROC` to this process's part of the threads of its machine.

    Otherwise each process would use all cores. Nothing changes if `NPROC` is set, if a
    launcher has bound the process to cores, or if it is alone on its machine.
    """
    here = variables.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1")
    together = int(here) if here.isdecimal() else 1
    if settings and settings[0].rpartition(":")[0] in LOCAL_HOSTS:
        together = settings[1]
    cores = os.cpu_count() or 1
    if together > 1 and threads() == cores:
        variables.setdefault("NPROC", str(max(cores // together, 1)))


def wrong_variable(name: str, expected: str, found: str) -> ParameterError:
    """The error for a wrong environment variable."""
    return ParameterError(
        f"{name}: expected {expected}, found {found[:60]!r}. Set {COORDINATOR}, "
        f"{PROCESSES} and {PROCESS_ID} for each process, or none of them."
    )
