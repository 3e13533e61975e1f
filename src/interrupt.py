"""SIGINT and SIGTERM: an exception at once, and a flag for where it gets lost.

Python raises a handler's exception wherever it happens to be; inside a callback of a
library it is printed and forgotten, inside an import it becomes another one. The flag
stays: long loops look at it, and so does the end of a stage.
"""

import signal
from types import FrameType

_received: list[signal.Signals] = []


class Stopped(BaseException):
    """A signal asked for the end; not an error of the program."""


def listen() -> None:
    """Takes over both signals, also where a shell started us with SIGINT ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _receive)


def _receive(number: int, frame: FrameType | None) -> None:
    _received.append(signal.Signals(number))
    raise Stopped


def received() -> signal.Signals | None:
    """The first signal that arrived, if one did."""
    return _received[0] if _received else None


def raise_if_stopped() -> None:
    """Raises Stopped once a signal has arrived."""
    if _received:
        raise Stopped
