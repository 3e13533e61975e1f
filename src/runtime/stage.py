"""How a stage starts and ends: parameters first, then one line and an exit code.

Every stage is `python -m stages.NAME`. Its `main` takes the checked parameters and the
context, imports what it needs only then, and returns the one line to print at the end.
"""

import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from typing import NoReturn

from src import paths, signals
from src.config.load import load_params
from src.config.params import Params
from src.errors import FourbeatError, ParameterError, StorageError, escape_unprintable
from src.runtime import processes
from src.runtime.cores import available_cores, share_cores
from src.storage.atomic import AtomicCommit, atomic_commit
from src.storage.lineage import (
    NO_INPUTS,
    InputDigests,
    check_unchanged,
    record_inputs,
)

# Fewer collections: imports and tracing create many objects and hardly any garbage.
GARBAGE_THRESHOLDS = 50_000, 20, 100


@dataclass(frozen=True)
class StageContext:
    """The state of inputs and machine when a stage started.

    Without arguments, for calls outside of `run_stage`, there are no inputs to compare.
    """

    inputs: InputDigests = NO_INPUTS
    cores: frozenset[int] = frozenset()  # available before `share_cores`

    def check_inputs(self) -> None:
        """Raises DataError if an input has changed since the stage started."""
        check_unchanged(self.inputs)

    @contextmanager
    def outputs(self) -> Iterator[AtomicCommit]:
        """A commit of all outputs; it fails if an input has changed.

        Raises:
            DataError: an input has changed; nothing is written.
            StorageError: an output cannot be written; nothing is written.
        """
        with atomic_commit() as commit:
            yield commit
            self.check_inputs()


def run_stage(
    name: str,
    main: Callable[[Params, StageContext], str],
    arguments: Sequence[str] = (),
) -> NoReturn:
    """Loads the parameters, runs a stage, prints its line, and exits.

    Args:
        name: of the stage.
        main: of the stage's module.
        arguments: of the command line. `--help` prints the docstring of the module; a
            stage takes no others.
    """

    def body() -> None:
        if {"-h", "--help"} & set(arguments):
            print(usage(name, main))  # noqa: T201
            return
        check_no_arguments(arguments)
        params = load_params(paths.PARAMS)
        cores = available_cores()
        share_cores()
        context = StageContext(record_inputs(name, params), cores)
        result = main(params, context)
        print(f"{prefix(name)}: {result}", flush=True)  # noqa: T201

    run_command(name, body)


def usage(name: str, main: Callable[[Params, StageContext], str]) -> str:
    """The answer to `--help`: the command and the docstring of its module."""
    described = (sys.modules[main.__module__].__doc__ or "").strip()
    return f"usage: python -m stages.{name} [--help]\n\n{described}"


def check_no_arguments(arguments: Sequence[str]) -> None:
    """Raises ParameterError if there is an argument."""
    if arguments:
        raise ParameterError(
            f"expected no arguments, found '{arguments[0]}'. Set parameters in "
            "params.yaml."
        )


def run_command(name: str, body: Callable[[], None]) -> NoReturn:
    """Runs a command that needs no parameters, and exits.

    The exit code is 0 after success, 2 to 5 for a FourbeatError (5 for an OSError too),
    and 129, 130 or 143 after SIGHUP, SIGINT or SIGTERM. A bug keeps its traceback and
    exits with 1.
    """
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    done = False
    try:
        signals.install_handlers()
        if isinstance(sys.stdout, TextIOWrapper):  # a terminal may lack some letters
            sys.stdout.reconfigure(errors="backslashreplace")
        body()
        sys.stdout.flush()
        signals.ignore()
        code, done = 0, True
    except Exception as error:
        fault = explain_error(error)
        if fault is None:
            if processes.is_single_process():
                raise
            traceback.print_exc()
        else:
            print_error(name, fault[0])
        code = fault[1] if fault else 1
        if isinstance(error, BrokenPipeError):  # Python flushes stdout once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    finally:
        # Here, because a library may have replaced or swallowed the Stopped exception.
        number = signals.pending_signal()
        if number is not None and not done:
            signals.ignore()
            print_error(name, f"stopped by {number.name}, unfinished. Run it again.")
            processes.exit_group(128 + number)
            # Not sys.exit: it would crash during a compilation in another thread.
            os._exit(128 + number)
    if code:
        processes.exit_group(code)
    gc.freeze()  # or Python looks for cycles once more at its end: 0.3 s with JAX
    sys.exit(code)


def explain_error(error: Exception) -> tuple[str, int] | None:
    """The message and the exit code of an error that is not a bug; None for a bug."""
    match error:
        case FourbeatError():
            return str(error), error.exit_code
        case BrokenPipeError():
            message = "the reader closed the output. Run it again."
            return message, StorageError.exit_code
        case OSError():
            where = error.filename or "the disk"
            return f"{where}: {error.strerror or error}.", StorageError.exit_code
        case ModuleNotFoundError(name=str(module)):
            repair = "Run make setup."
            if module.split(".")[0] in ("src", "stages"):
                repair = "Write it; for a queued or --temp run also git add it."
            message = f"expected the module {module}, found none. {repair}"
            return message, ParameterError.exit_code
        case MemoryError():
            message = f"out of memory: {error}. Use less data, or a larger machine."
            return message, StorageError.exit_code
    return None


def print_error(name: str, message: str) -> None:
    """Prints a message on stderr, in one line."""
    line = " ".join(message.split())
    print(f"{prefix(name)}: {escape_unprintable(line)}", file=sys.stderr, flush=True)  # noqa: T201


def print_warning(name: str, message: str) -> None:
    """Prints a warning on stderr, in one line. The exit code stays 0."""
    print_error(name, f"warning: {message}")


def prefix(name: str) -> str:
    """The stage's name; with several processes also which one this is."""
    if processes.is_single_process():
        return name
    return f"{name}, {processes.process_name()}"
