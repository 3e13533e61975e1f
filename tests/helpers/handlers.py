"""Waits for the handlers of `src.signals` in another process."""

import re
import signal
import subprocess
import time
from pathlib import Path


def wait_for_handlers(process: subprocess.Popen) -> None:
    """Waits until the process handles SIGTERM; needs /proc."""
    status = Path(f"/proc/{process.pid}/status")
    end = time.monotonic() + 300
    while status.exists() and process.poll() is None:
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status.read_text(), re.MULTILINE)
        if caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        assert time.monotonic() < end, "SIGTERM is not handled"
        time.sleep(0.01)
