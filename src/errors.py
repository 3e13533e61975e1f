"""The errors that are not bugs, each with its exit code.

A message is one line: where, what was expected, what was found, and what to do. Every
other exception is a bug. It keeps its traceback and exits with 1.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import ClassVar


class FourbeatError(Exception):
    """An error that the user can fix; the process exits with `exit_code`."""

    exit_code: ClassVar[int]


class ParameterError(FourbeatError):
    """`params.yaml` is wrong."""

    exit_code = 2


class DataError(FourbeatError):
    """A data set or the output of an earlier stage is wrong."""

    exit_code = 3


class BrokenFilesError(DataError):
    """Files of a data set cannot be read; `lines` names some of them, one in each."""

    def __init__(self, message: str, lines: Sequence[str]) -> None:
        super().__init__(message)
        self.lines = lines


class DivergedError(FourbeatError):
    """A loss, gradient, weight or prediction is not finite."""

    exit_code = 4


class StorageError(FourbeatError):
    """The disk or the network failed."""

    exit_code = 5


class BusyError(FourbeatError):
    """Another process is already running the same training."""

    exit_code = 2


def suggestion(found: object, known: list[str]) -> str:
    """` Did you mean ...?` for the closest known word; empty if none is close."""
    lowered = {word.lower(): word for word in reversed(known)}
    near = get_close_matches(str(found).lower(), list(lowered), n=1)
    return f" Did you mean '{lowered[near[0]]}'?" if near else ""


def counted(count: int, noun: str) -> str:
    """`1 file`, `2 files`: a number of things whose plural ends in s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def escape_unprintable(text: str) -> str:
    """A line that is safe to print: control characters are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shortened(value: object) -> str:
    """A value's `repr`, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def short_path(path: str, letters: int) -> str:
    """A file's path in at most `letters` letters, without control characters.

    A longer one is shortened from the left, so the file's own name stays.
    """
    shown = escape_unprintable(path)
    return shown if len(shown) <= letters else f"...{shown[3 - letters :]}"


def one_line(error: Exception) -> str:
    """An error's message in one line without a final full stop, at most 200 letters."""
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return words if len(words) <= 200 else f"{words[:197]}..."
