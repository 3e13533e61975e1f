"""Runs that take turns on one machine, so that a slow phase affects all of them."""

import json
import socket
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.project import finish, start

PAUSE_SECONDS = 0.3  # between turns, until the threads of the previous run sleep
TRIAL_STEPS = 50  # to estimate the steps of a turn
Environment = Mapping[str, str]


class Spread(NamedTuple):
    """Median and range over several rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Computes median, minimum and maximum."""
        return cls(statistics.median(values), min(values), max(values))


def format_spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Formats a `Spread` for the tables."""
    median, least, most = (format(value, form) for value in values)
    return f"{median} ({least} - {most})"


class Run:
    """One or several processes that train one network in turns."""

    def __init__(
        self, folder: Path, environments: Sequence[Environment] = ({},)
    ) -> None:
        """Starts the processes; they build the network in their first turn.

        Args:
            folder: with params.yaml and data/prepared.
            environments: environment variables of each process.
        """
        self.processes = [
            start(folder, "benchmarks.turns", **environment)
            for environment in environments
        ]

    def turn(self, steps: int) -> dict[str, Any]:
        """Takes `steps` steps; returns the answer of process 0."""
        for process in self.processes:
            if process.stdin and process.poll() is None:
                process.stdin.write(f"{steps}\n")
                process.stdin.flush()
        answer, *_ = [read_answer(process) for process in self.processes]
        return answer

    def stop(self) -> None:
        """Ends all processes; they wait for one another."""
        for process in self.processes:
            if process.stdin:
                process.stdin.close()
                process.stdin = None
        for process in self.processes:
            finish(process)


def read_answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Reads the next line of JSON; exits if the process ended."""
    for line in process.stdout or ():
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    raise SystemExit(f"{process.args!r}: ended with {process.wait()}.")


def race(
    runs: Mapping[str, Run], *, seconds: float, rounds: int, batch: int
) -> dict[str, list[float]]:
    """Images/s of each run in each round; a turn takes about `seconds`.

    Every run must have taken a turn before, so that it is compiled.
    """
    names, steps = list(runs), {}
    for name, run in runs.items():
        trial = run.turn(TRIAL_STEPS)
        steps[name] = max(int(trial["steps"] / trial["seconds"] * seconds), TRIAL_STEPS)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        # The order rotates, so that none always follows the same run.
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            time.sleep(PAUSE_SECONDS)
            answer = runs[name].turn(steps[name])
            rates[name].append(answer["steps"] * batch / answer["seconds"])
    return rates


def group_environments(count: int) -> list[dict[str, str]]:
    """The environments of `count` processes on this machine that train as a group."""
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
