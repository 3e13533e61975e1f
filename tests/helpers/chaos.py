"""`make chaos N=200`: kills a real run again and again and compares its outputs.

The run is that of params.yaml, in a temporary clone. Every second kill comes as soon as
the run has saved its state. The others come at moments drawn evenly over the length of
an uninterrupted run. Each killed run is started again until it ends. Then the next run
begins, until there were N kills. Each run must leave the same bytes as an uninterrupted
one.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.handlers import wait_for_handlers

OUTPUTS = (
    "models/model.safetensors",
    "models/model.json",
    "metrics/train.json",
    "metrics/details/train.json",
    "metrics/plots/history.csv",
    "metrics/plots/steps.csv",
)
LOG = "train.log"
PATIENCE = 900  # seconds; longer than any machine needs
TRAIN = ("-m", "stages.train")
ROOT = Path(__file__).parents[2]


@dataclass
class Report:
    """Counts of kills, resumes and differences."""

    starts: int = 0
    kills: int = 0
    resumes: int = 0  # starts that resumed from a checkpoint
    ended: int = 0  # runs that left all outputs, some killed just after
    different: int = 0  # of these: with a changed output
    lost: list[int] = field(default_factory=list)  # steps done again, at least, by kill
    codes: set[int] = field(default_factory=set)  # how killed processes ended


def start(folder: Path, command: Sequence[str]) -> subprocess.Popen[str]:
    """Starts Python in a new session, with these sources; it prints to LOG."""
    with (folder / LOG).open("w") as log:
        return subprocess.Popen(
            (sys.executable, "-u", *command),
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "FOURBEAT_RESUME_DIR": ".resume",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def outputs(folder: Path) -> dict[str, bytes]:
    """The content of each output."""
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


def digests(folder: Path) -> list[str]:
    """The SHA-256 of every output."""
    return [
        hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in OUTPUTS
    ]


def run_to_its_end(folder: Path, command: Sequence[str]) -> float:
    """Trains without interruption; returns the duration in seconds."""
    began = time.monotonic()
    process = start(folder, command)
    if process.wait(PATIENCE):
        output = (folder / LOG).read_text()
        sys.exit(
            f"chaos: the undisturbed run ended with {process.returncode}: {output}"
        )
    return time.monotonic() - began


def saved_states(folder: Path) -> set[tuple[str, int]]:
    """The saved states, by name and time."""
    found = (folder / ".resume").glob("*/state-*")
    whole = [path for path in found if path.suffix != ".tmp"]
    return {(path.name, path.stat().st_mtime_ns) for path in whole}


def wait_for_save(folder: Path, process: subprocess.Popen[str]) -> None:
    """Waits until the process has saved another state, or has ended."""
    end = time.monotonic() + PATIENCE
    before = saved_states(folder)
    while process.poll() is None:
        # A state that is replaced during the look is another one too.
        with contextlib.suppress(FileNotFoundError):
            if saved_states(folder) - before:
                return
        if time.monotonic() > end:
            sys.exit("chaos: expected a saved state, found none.")
        time.sleep(0.01)


def campaign(
    folder: Path,
    kills: int,
    seed: int,
    signals: Sequence[signal.Signals],
    command: Sequence[str] = TRAIN,
) -> Report:
    """Kills until it is enough, then lets the last run end.

    Args:
        folder: with params.yaml and data/prepared.
        kills: how many.
        seed: of the moments.
        signals: one is drawn for each kill.
        command: trains; arguments of Python.
    """
    draw, report = random.Random(seed), Report()
    seconds = run_to_its_end(folder, command)
    expected = digests(folder)
    trained = json.loads((folder / "metrics/details/train.json").read_text())
    steps = trained["steps"] // trained["epochs"]
    done = 0  # steps that the last start was seen to have done
    while True:
        for name in OUTPUTS:
            (folder / name).unlink(missing_ok=True)
        process = start(folder, command)
        report.starts += 1
        sent, left = None, kills - report.kills
        try:
            if set(signals) != {signal.SIGKILL}:  # before, Python sets the exit code
                wait_for_handlers(process)
            if left % 2:  # the last one too: its run is then resumed to the end
                wait_for_save(folder, process)
                process.wait(0)
            process.wait(draw.uniform(0, seconds) if left else PATIENCE)
        except subprocess.TimeoutExpired:
            sent = draw.choice(signals)
            process.send_signal(sent)
            process.wait(PATIENCE)
        finally:
            process.kill()
        output = (folder / LOG).read_text()
        begin = 0
        if found := re.search(r"resuming in epoch (\d+)(?:, after (\d+) of)?", output):
            report.resumes += 1
            begin = (int(found[1]) - 1) * steps + int(found[2] or 0)
        if "epoch" in output:  # it came so far that it had begun somewhere
            report.lost.append(max(done - begin, 0))
            epochs = re.findall(r"^epoch +(\d+)/", output, re.MULTILINE)
            done = int(epochs[-1]) * steps if epochs else begin
        if all((folder / name).exists() for name in OUTPUTS):
            report.ended += 1
            report.different += digests(folder) != expected
            done = 0
        if process.returncode == 0:
            if report.kills >= kills:
                return report
        else:
            report.kills += 1
            report.codes.add(process.returncode)
            if sent is None:
                sys.exit(f"chaos: ended with {process.returncode}: {output}")


def main() -> int:
    """Runs the campaign on the commit at HEAD."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "fourbeat"
        subprocess.run(["git", "clone", "--quiet", ".", clone], check=True)
        prepare = ["dvc", "repro", "--quiet", "prepare"]
        subprocess.run(prepare, cwd=clone, check=True, stdout=subprocess.DEVNULL)
        report = campaign(clone, arguments.kills, arguments.seed, [signal.SIGKILL])
    print(
        f"chaos: {report.kills} kills in {report.starts} starts, {report.resumes} of "
        f"which went on from a saved state; {sum(report.lost)} steps done twice, at "
        f"most {max(report.lost)} for a kill; {report.ended} runs ended, "
        f"{report.different} with a difference."
    )
    return 1 if report.different else 0


if __name__ == "__main__":
    sys.exit(main())
