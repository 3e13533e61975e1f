"""SIGINT, SIGTERM, SIGHUP: an exception, a flag for where it gets lost, a time limit.

Python raises a handler's exception wherever it happens to be; inside a callback of a
library it is printed and forgotten, inside an import it becomes another one. The flag
stays: long loops look at it, and so does the end of a stage. Once there is something to
save, `defer` leaves it at the flag.

While a library's own code runs, a compilation for instance, Python does not get to its
handlers at all: so a thread watches too. It ends the process after five seconds, or
when a second signal comes, whatever the process is doing.
"""

import os
import select
import signal
import threading
import time
from pathlib import Path
from types import FrameType

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
SECONDS = 4.5  # from the signal to the end at the latest
ONE_SIGNAL = 0.3  # seconds in which a signal that comes twice was sent once: `timeout`

_received: list[signal.Signals] = []
_waiting = False
_stderr = 2


class Stopped(BaseException):
    """A signal asked for the end; not an error of the program."""


def _started_by() -> list[int]:
    """The process that started this one, and who started that if it is `sh -c`.

    DVC gives a command to `$SHELL`: bash and zsh become the command, dash waits for it
    and outlives a killed DVC. Where there is no /proc, only the parent is known.
    """
    parent = os.getppid()
    try:
        words = Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")
        if b"-c" not in words:
            return [parent]
        # "number (name) state parent ...", and a name may hold spaces and brackets.
        fields = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()
        return [parent, int(fields[1])]
    except OSError:
        return [parent]


_at_the_start = _started_by()


def install_handlers() -> None:
    """Takes over these signals."""
    global _stderr
    _stderr = os.dup(2)  # what is quiet meanwhile has taken the other one
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=[reading], daemon=True).start()
    for number in SIGNALS:
        # nohup asks that a closed terminal be ignored; a shell asks it of SIGINT too,
        # for what it starts in the background, but DVC sends it all the same.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _receive)


def defer() -> None:
    """From now on a signal is only noted: the caller looks often, saves, and stops."""
    global _waiting
    _waiting = True


def record(number: int) -> None:
    """Takes note of a signal that another process of this run has received."""
    if not _received:
        _received.append(signal.Signals(number))


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
    os.write(
        _stderr, f"stopped by {name} before it could end well. Run it again.\n".encode()
    )
    os._exit(128 + number)


def pending_signal() -> signal.Signals | None:
    """The first signal that arrived, if one did; SIGTERM where `dvc` is gone."""
    under_dvc = "DVC_STAGE" in os.environ
    if not _received and under_dvc and _started_by() != _at_the_start:
        _received.append(signal.SIGTERM)
    return _received[0] if _received else None


def raise_if_stopped() -> None:
    """Raises Stopped once a signal has arrived."""
    if pending_signal():
        raise Stopped
