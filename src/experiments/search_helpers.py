"""Further processes that work on the same search, each on its share of the cores.

A helper that is killed loses nothing: its trial is taken over. So the process that
started the helpers ends them that way, and they end themselves when it is gone.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from src.errors import ParameterError
from src.runtime.cores import JOBS, available_cores

SECONDS_TO_END = 10  # for a helper, before it is killed
HELPER = "--helper"  # an option of the command that only this module passes


def check_workers(workers: int) -> None:
    """Raises ParameterError unless there is a core for each worker."""
    cores = len(available_cores()) or os.cpu_count() or 1
    if not 1 <= workers <= cores:
        raise ParameterError(
            f"--workers: expected an integer in [1, {cores}], the cores of this "
            f"machine, found {workers}. Use --workers {cores} or less."
        )


@contextmanager
def helpers(count: int, arguments: Sequence[str]) -> Iterator[list[subprocess.Popen]]:
    """Starts the same command `count` times more; at the end they are killed.

    Call it before this process is bound to its own share of the cores.
    """
    if count:
        os.environ.setdefault(JOBS, str(1 + count))
    started: list[subprocess.Popen] = []
    try:
        for _ in range(count):
            process = subprocess.Popen(  # noqa: S603 - the user's own words, no shell
                [sys.executable, "-m", "stages.search", HELPER, *arguments],
                stdin=subprocess.PIPE,  # its end tells a helper to end
                stdout=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C reaches this process alone
            )
            started.append(process)
        yield started
    finally:
        for process in started:
            process.terminate()  # its trial then does not count as killed
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS_TO_END)
            process.kill()
            process.wait()


def end_with_stdin() -> None:
    """Ends this helper at once when the process that started it is gone."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
