"""Several processes of one run, on this machine."""

import os
import socket
import subprocess
import sys
import time

from tests.helpers.imports import ROOT

# A run of some seconds in many short epochs, with a row for each step.
SHORT = {
    "model": "mlp",
    "hidden": 64,
    "batch_size": 16,
    "epochs": 20,
    "log_every": 1,
    "augment": "[shift]",
}


LONG = {**SHORT, "epochs": 300, "log_every": 7, "ema_decay": 0.9, "on_nan": "skip"}


STAGE = "-m", "stages.train"


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("localhost", 0))
        return bound.getsockname()[1]


class Group:
    """Processes of one run; they end with the `with` block."""

    def __init__(self, folder, commands=(STAGE, STAGE), **environment):
        shared = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FOURBEAT_COORDINATOR": f"localhost:{free_port()}",
            "FOURBEAT_PROCESSES": str(len(commands)),
            **environment,
        }
        self.folder, self.members, self.files = folder, [], []
        for number, command in enumerate(commands):
            files = [
                (folder / f"{number}.{name}").open("w+b") for name in ("out", "err")
            ]
            self.files.append(files)
            self.members.append(
                subprocess.Popen(
                    [sys.executable, "-u", *command],
                    cwd=folder,
                    env={**shared, "FOURBEAT_PROCESS_ID": str(number)},
                    stdout=files[0],
                    stderr=files[1],
                )
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            member.kill()
            member.wait()
        for file in (file for files in self.files for file in files):
            file.close()

    def wait(self, seconds=300):
        """The exit codes, once all have ended."""
        end = time.monotonic() + seconds
        return [member.wait(max(end - time.monotonic(), 0)) for member in self.members]

    def out(self, number):
        text = (self.folder / f"{number}.out").read_text()
        return [
            line
            for line in text.splitlines()
            if not line.startswith(("[Gloo]", "waiting"))
        ]

    def err(self, number):
        return (self.folder / f"{number}.err").read_text()

    def epochs(self):
        """How many epochs process 0 has printed."""
        return sum(line.startswith("epoch") for line in self.out(0))

    def until_saved(self, seconds=300):
        """Waits until there is a saved state."""
        end = time.monotonic() + seconds
        while not list((self.folder / ".resume").glob("*/state-*")):
            assert time.monotonic() < end, self.err(0) + self.err(1)
            assert self.members[0].poll() is None, self.err(0)
            time.sleep(0.02)

    def until(self, epochs, seconds=300):
        """Waits until process 0 has printed so many epochs."""
        end = time.monotonic() + seconds
        while self.epochs() < epochs:
            assert time.monotonic() < end, self.err(0) + self.err(1)
            assert self.members[0].poll() is None, self.err(0)
            time.sleep(0.02)


def trained(folder, count=2, commands=None, seconds=300, **environment):
    """Runs a group until all its processes have ended with exit code 0."""
    with Group(folder, commands or (STAGE,) * count, **environment) as group:
        codes = group.wait(seconds)
        assert codes == [0] * len(codes), [group.err(n) for n in range(len(codes))]
        return group


def patched(line, process=1):
    """The train stage after a line of Python in one of the processes."""
    source = (
        "import os, runpy, sys\n"
        f"if os.environ['FOURBEAT_PROCESS_ID'] in '{process}':\n    {line}\n"
        "runpy.run_module('stages.train', run_name='__main__')\n"
    )
    return [("-c", source)] * 2
