"""SIGINT, SIGTERM, SIGHUP: an exception, a flag for where it gets lost, a time limit.

Python raises a handler's exception wherever it happens to be; inside a callback of a
library it is printed and forgotten, inside an import it becomes another one. The flag
stays: long loops look at it, and so does the end of a stage. Once there is something to
save, `wait_for_me` leaves it at the flag.

While a library's own code runs, a compilation for instance, Python does not get to its
handlers at all: so a thread watches too. It ends the process after five seconds, or
when a second signal comes, whatever the process is doing.
"""

import os
import select
import signal
import threading
import time
from types import FrameType

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
SECONDS = 4.5  # from the signal to the end at the latest
ONE_SIGNAL = 0.3  # seconds in which a signal that comes twice was sent once: `timeout`

_received: list[signal.Signals] = []
_waiting = False
_parent = os.getppid()


class Stopped(BaseException):
    """A signal asked for the end; not an error of the program."""


def listen() -> None:
    """Takes over these signals."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=[reading], daemon=True).start()
    for number in SIGNALS:
        # nohup asks that a closed terminal be ignored; a shell asks it of SIGINT too,
        # for what it starts in the background, but DVC sends it all the same.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _receive)


def wait_for_me() -> None:
    """From now on a signal is only noted: the caller looks often, saves, and stops."""
    global _waiting
    _waiting = True


def ignore() -> None:
    """From now on signals do nothing: all is done but for Python's own end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _receive(number: int, frame: FrameType | None) -> None:
    if not _received:
        _received.append(signal.Signals(number))
        if not _waiting:
            raise Stopped


def _watch(pipe: int) -> None:
    """Reads the numbers of signals as they come; ends the process when it is time."""
    number = os.read(pipe, 1)[0]
    began = time.monotonic()
    while (passed := time.monotonic() - began) < SECONDS:
        another, _, _ = select.select([pipe], [], [], SECONDS - passed)
        if another and os.read(pipe, 1) and time.monotonic() - began > ONE_SIGNAL:
            break
    name = signal.Signals(number).name
    os.write(2, f"stopped by {name} before it could end well. Run it again.\n".encode())
    os._exit(128 + number)


def received() -> signal.Signals | None:
    """The first signal that arrived, if one did; SIGTERM where `dvc` is gone."""
    if not _received and "DVC_STAGE" in os.environ and os.getppid() != _parent:
        _received.append(signal.SIGTERM)
    return _received[0] if _received else None


def raise_if_stopped() -> None:
    """Raises Stopped once a signal has arrived."""
    if received():
        raise Stopped
