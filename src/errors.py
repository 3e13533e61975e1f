"""What can go wrong by the user's hand or the machine's, and the exit code it gives.

A message is one line and says where, what was expected, what was found and what to do.
Everything that is not one of these is a bug: it keeps its traceback and exits 1.
"""

from difflib import get_close_matches
from typing import ClassVar


class FourbeatError(Exception):
    """An error that the user can fix; the stage exits with `exit_code`."""

    exit_code: ClassVar[int]


class ParameterError(FourbeatError):
    """`params.yaml` is wrong."""

    exit_code = 2


class DataError(FourbeatError):
    """A data set or an artifact of an earlier stage is wrong."""

    exit_code = 3


class DivergedError(FourbeatError):
    """Training or scoring met a number that is not finite."""

    exit_code = 4


class StorageError(FourbeatError):
    """The disk or the network failed."""

    exit_code = 5


class BusyError(FourbeatError):
    """Another process does this very work already."""

    exit_code = 2


def suggestion(found: object, known: list[str]) -> str:
    """` Did you mean ...?`, or nothing where nothing known is near."""
    near = get_close_matches(str(found), known, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def printable(text: str) -> str:
    """A line as a terminal may show it: nothing in it moves the cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shortened(value: object) -> str:
    """A value as the message shows it, however long it is."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def one_line(error: Exception) -> str:
    """An error's own words, without line breaks or a full stop, not too many."""
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return words if len(words) <= 200 else f"{words[:197]}..."
