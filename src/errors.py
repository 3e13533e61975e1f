"""What can go wrong by the user's hand or the machine's, and the exit code it gives.

A message is one line and says where, what was expected, what was found and what to do.
Everything that is not one of these is a bug: it keeps its traceback and exits 1.
"""

from typing import ClassVar


class FourbeatError(Exception):
    """An error that its reader can mend; `src.stage` turns it into an exit code."""

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
