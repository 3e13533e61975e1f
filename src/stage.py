"""How a stage starts and ends: parameters first, then one line and an exit code.

Every stage is `python -m stages.NAME`. Its `main` takes the checked parameters, imports
what it needs only then, and returns the one line that says what it made.
"""

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from src import paths
from src.config import Params, load_params
from src.errors import FourbeatError, StorageError


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt, not an error of the program."""


def run_stage(name: str, main: Callable[[Params], str]) -> NoReturn:
    """Runs a stage and exits.

    Exits with 0 when done, 2 to 5 for what a FourbeatError says (5 for an OSError too),
    130 and 143 when stopped by SIGINT and SIGTERM. A bug keeps its traceback: 1.
    """
    signal.signal(signal.SIGTERM, raise_terminated)
    # A shell starts background jobs with SIGINT ignored, and Python leaves it so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        print(f"{name}: {main(load_params(paths.PARAMS))}", flush=True)  # noqa: T201
        code = 0
    except KeyboardInterrupt:
        code = failed(name, "stopped by SIGINT; nothing was written.", 130)
    except Terminated:
        code = failed(name, "stopped by SIGTERM; nothing was written.", 143)
    except FourbeatError as error:
        code = failed(name, str(error), error.exit_code)
    except OSError as error:
        where = error.filename or "the disk"
        code = failed(
            name, f"{where}: {error.strerror or error}.", StorageError.exit_code
        )
    sys.exit(code)


def raise_terminated(signum: int, frame: FrameType | None) -> NoReturn:
    """Turns SIGTERM into an exception, so that `finally` clauses still run."""
    raise Terminated


def failed(name: str, message: str, code: int) -> int:
    """Says on stderr, in one line, why the stage ends; returns the exit code."""
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr, flush=True)  # noqa: T201
    return code
