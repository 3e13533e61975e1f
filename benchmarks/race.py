"""Runs side by side on one machine: they take turns, so a slow minute hits them all."""

import json
import socket
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.project import finish, start

PAUSE = 0.3  # seconds between two turns: until the threads of the one before sleep
TRIAL = 50  # steps that tell how many a turn needs
Environment = Mapping[str, str]


class Spread(NamedTuple):
    """Of what was measured in several rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The median, with the least and the most."""
        return cls(statistics.median(values), min(values), max(values))


def shown(values: Sequence[float], form: str = ",.0f") -> str:
    """A `Spread` as the tables show it."""
    median, least, most = (format(value, form) for value in values)
    return f"{median} ({least} - {most})"


class Run:
    """One or several processes that train one network in turns."""

    def __init__(
        self, folder: Path, environments: Sequence[Environment] = ({},)
    ) -> None:
        """Starts them; they build their network when the first turn begins.

        Args:
            folder: with params.yaml and data/prepared.
            environments: one for each process.
        """
        self.processes = [
            start(folder, "benchmarks.turns", **environment)
            for environment in environments
        ]

    def turn(self, steps: int) -> dict[str, Any]:
        """Lets it take that many steps; the answer of process 0."""
        for process in self.processes:
            if process.stdin and process.poll() is None:
                process.stdin.write(f"{steps}\n")
                process.stdin.flush()
        answer, *_ = [read_answer(process) for process in self.processes]
        return answer

    def stop(self) -> None:
        """Ends all processes, which wait for one another."""
        for process in self.processes:
            if process.stdin:
                process.stdin.close()
                process.stdin = None
        for process in self.processes:
            finish(process)


def read_answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line of JSON; ends this program where there is none."""
    for line in process.stdout or ():
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    raise SystemExit(f"{process.args!r}: ended with {process.wait()}.")


def race(
    runs: Mapping[str, Run], *, seconds: float, rounds: int, batch: int
) -> dict[str, list[float]]:
    """Images per second of each run in each round; a turn is about `seconds` long.

    All have taken a turn already, so all is compiled.
    """
    names, steps = list(runs), {}
    for name, run in runs.items():
        trial = run.turn(TRIAL)
        steps[name] = max(int(trial["steps"] / trial["seconds"] * seconds), TRIAL)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        # Each round begins with another one: no one always follows the same one.
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            time.sleep(PAUSE)
            answer = runs[name].turn(steps[name])
            rates[name].append(answer["steps"] * batch / answer["seconds"])
    return rates


def together(count: int) -> list[dict[str, str]]:
    """The environments of so many processes on this machine that train as one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [
        {
            "FOURBEAT_COORDINATOR": f"127.0.0.1:{port}",
            "FOURBEAT_PROCESSES": str(count),
            "FOURBEAT_PROCESS_ID": str(number),
        }
        for number in range(count)
    ]
