"""SIGINT and SIGTERM: an exception at once, and a flag for where it gets lost.

Python raises a handler's exception wherever it happens to be; inside a callback of a
library it is printed and forgotten, inside an import it becomes another one. The flag
stays: long loops look at it, and so does the end of a stage.

Once there is something to save, `wait_for_me` leaves it at the flag. A second signal
ends the process on the spot, whatever it is doing.
"""

import os
import signal
from types import FrameType

_received: list[signal.Signals] = []
_waiting = False
_parent = os.getppid()


class Stopped(BaseException):
    """A signal asked for the end; not an error of the program."""


def listen() -> None:
    """Takes over both signals, also where a shell started us with SIGINT ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _receive)


def wait_for_me() -> None:
    """From now on a signal is only noted: the caller looks often, saves, and stops."""
    global _waiting
    _waiting = True


def _receive(number: int, frame: FrameType | None) -> None:
    if _received:
        os._exit(128 + number)
    _received.append(signal.Signals(number))
    if not _waiting:
        raise Stopped


def received() -> signal.Signals | None:
    """The first signal that arrived, if one did; SIGTERM where `dvc` is gone."""
    if not _received and "DVC_STAGE" in os.environ and os.getppid() != _parent:
        _received.append(signal.SIGTERM)
    return _received[0] if _received else None


def raise_if_stopped() -> None:
    """Raises Stopped once a signal has arrived."""
    if received():
        raise Stopped
