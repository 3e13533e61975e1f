"""Ends a process that this one started."""

import subprocess
from contextlib import suppress
from typing import Any


def end_process(process: subprocess.Popen[Any]) -> int:
    """Kills the process, unless it has ended, and closes its pipes.

    Returns:
        Its exit code; negative: the number of a signal.
    """
    process.kill()
    code = process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with suppress(OSError):  # what it has not read is still to be written
                pipe.close()
    return code
