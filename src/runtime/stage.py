"""How a stage starts and ends: parameters first, then one line and an exit code.

Every stage is `python -m stages.NAME`. Its `main` takes the checked parameters, imports
what it needs only then, and returns the one line that says what it made.
"""

import os
import sys
import traceback
from collections.abc import Callable
from io import TextIOWrapper
from typing import NoReturn

from src import paths, signals
from src.config.load import load_params
from src.config.params import Params
from src.errors import FourbeatError, ParameterError, StorageError, printable
from src.runtime import processes
from src.runtime.cores import share_cores
from src.storage import lineage


def run_stage(name: str, main: Callable[[Params], str]) -> NoReturn:
    """Runs a stage: its parameters first, its one line last."""

    def body() -> None:
        params = load_params(paths.PARAMS)
        share_cores()
        lineage.record_inputs(name, params)
        made = main(params)
        print(f"{signed(name)}: {made}", flush=True)  # noqa: T201

    run_command(name, body)


def run_command(name: str, body: Callable[[], None]) -> NoReturn:
    """Runs what needs no parameters, and exits.

    Exits with 0 when done, 2 to 5 for what a FourbeatError says (5 for an OSError too),
    129, 130 and 143 when stopped by SIGHUP, SIGINT and SIGTERM. A bug keeps its
    traceback: 1.
    """
    signals.install_handlers()
    done = False
    try:
        if isinstance(sys.stdout, TextIOWrapper):  # a terminal may lack some letters
            sys.stdout.reconfigure(errors="backslashreplace")
        body()
        sys.stdout.flush()
        signals.ignore()
        code, done = 0, True
    except FourbeatError as error:
        code = failed(name, str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for Python's own last flush
        message = "nobody reads the output any more. Run it again."
        code = failed(name, message, StorageError.exit_code)
    except OSError as error:
        where = error.filename or "the disk"
        message = f"{where}: {error.strerror or error}."
        code = failed(name, message, StorageError.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(("src", "stages")):
            raise  # a bug
        message = f"expected the package {error.name}, found it missing. make setup"
        code = failed(name, message, ParameterError.exit_code)
    except MemoryError as error:
        message = f"not enough memory: {error}. Use less data, or a larger machine."
        code = failed(name, message, StorageError.exit_code)
    except Exception:
        if processes.is_single_process():
            raise
        traceback.print_exc()
        code = 1
    finally:
        # Whatever a signal's exception has become by now, and also where it was lost.
        number = signals.pending_signal()
        if number is not None and not done:
            failed(name, f"stopped by {number.name}, unfinished. Run it again.", 1)
            processes.exit_group(128 + number)
            # At once: a compilation that is still under way would crash a usual exit.
            os._exit(128 + number)
    if code:
        processes.exit_group(code)
    sys.exit(code)


def failed(name: str, message: str, code: int) -> int:
    """Says on stderr, in one line, why the stage ends; returns the exit code."""
    line = " ".join(message.split())
    print(f"{signed(name)}: {printable(line)}", file=sys.stderr, flush=True)  # noqa: T201
    return code


def signed(name: str) -> str:
    """The stage's name, and which of several processes speaks."""
    return name if processes.is_single_process() else f"{name}, {processes.described()}"
