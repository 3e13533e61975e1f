"""Signals: an exception at once, a flag for later, and a time limit.

Python raises a handler's exception wherever the program happens to be. A library's
callback prints and drops it. So a flag stays set: long loops check it, and so does the
end of a stage. After `defer`, only the flag is set. The import of a compiled module
may crash at an exception: a signal that arrives then is handled after the import.

Python runs no handler while a library's C code runs, such as a compilation. So a thread
waits for signals too. It ends the process 4.5 seconds after the first signal, or at the
second one.
"""

import os
import select
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
IMPORT_SECONDS = 0.02  # until a signal within an import is looked at again
GRACE_SECONDS = 4.5  # from the first signal to the end of the process
REPEAT_SECONDS = 0.3  # `timeout` sends a signal to the process and to its group


class Stopped(BaseException):
    """A signal asked the process to end; not an error of the program."""


@dataclass
class SignalState:
    """What the handlers and the rest of this process share."""

    received: signal.Signals | None = None  # the first one
    deferred: bool = False
    started_by: tuple[int, ...] = ()  # once the handlers are installed


# A handler belongs to the process and is given nothing else, so its state does too.
STATE = SignalState()


def install_handlers() -> None:
    """Handles these signals from now on."""
    STATE.started_by = starting_processes()
    stderr = os.dup(2)  # descriptor 2 may be redirected later
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=watch, args=[reading, stderr], daemon=True).start()
    signal.signal(signal.SIGALRM, stop)
    for number in SIGNALS:
        # nohup asks to ignore SIGHUP. A shell asks to ignore SIGINT in background jobs,
        # but DVC sends it to them, so it is handled all the same.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, receive)


def defer() -> None:
    """From now on a signal only sets the flag: the caller checks it and stops."""
    STATE.deferred = True


def record(number: int) -> None:
    """Sets the flag for a signal that another process of this run has received."""
    STATE.received = STATE.received or signal.Signals(number)


def ignore() -> None:
    """Ignores signals from now on: only Python's own exit is left."""
    for number in (*SIGNALS, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def pending_signal() -> signal.Signals | None:
    """The first signal that was received; SIGTERM if the `dvc` process is gone."""
    if STATE.received is None and is_orphaned():
        return signal.SIGTERM
    return STATE.received


def raise_if_stopped() -> None:
    """Raises Stopped if a signal is pending."""
    if pending_signal():
        signal.setitimer(signal.ITIMER_REAL, 0)  # or `stop` would raise it again
        raise Stopped


def is_orphaned() -> bool:
    """Whether the DVC process that started this one has ended."""
    if "DVC_STAGE" not in os.environ or not STATE.started_by:
        return False
    return starting_processes() != STATE.started_by


def starting_processes() -> tuple[int, ...]:
    """The parent process, and its parent too if the parent is `sh -c`.

    DVC gives the command to `$SHELL`. bash and zsh replace themselves by it;
    dash waits for it and outlives a killed DVC. Without /proc only the parent is known.
    """
    parent = os.getppid()
    try:
        words = Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")
        if b"-c" not in words:
            return (parent,)
        # "number (name) state parent ..."; the name may contain spaces and brackets.
        fields = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()
        return parent, int(fields[1])
    except OSError:
        return (parent,)


def receive(number: int, frame: FrameType | None) -> None:
    """The handler: sets the flag; raises Stopped unless signals are deferred."""
    if STATE.received is None:
        record(number)
        stop(signal.SIGALRM, frame)


def stop(_: int, frame: FrameType | None) -> None:
    """Raises Stopped unless signals are deferred; within an import, after it.

    Also the handler of SIGALRM, by which it calls itself again.
    """
    if STATE.deferred:
        return
    if not is_importing(frame):
        raise Stopped
    signal.setitimer(signal.ITIMER_REAL, IMPORT_SECONDS)


def is_importing(frame: FrameType | None) -> bool:
    """Whether this frame was called by an import statement."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def watch(pipe: int, stderr: int) -> None:
    """Waits for signals and ends the process when its time is over.

    Args:
        pipe: descriptor from which the numbers of received signals are read.
        stderr: descriptor for the last line.
    """
    number = os.read(pipe, 1)[0]
    start = time.monotonic()
    while (passed := time.monotonic() - start) < GRACE_SECONDS:
        ready, _, _ = select.select([pipe], [], [], GRACE_SECONDS - passed)
        again = ready and os.read(pipe, 1)[0] != signal.SIGALRM
        if again and time.monotonic() - start > REPEAT_SECONDS:
            break
    name = signal.Signals(number).name
    line = f"stopped by {name} before it could end well. Run it again.\n"
    os.write(stderr, line.encode())
    os._exit(128 + number)
