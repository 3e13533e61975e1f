"""`make chaos N=200`: kills a real run again and again and compares what comes out.

The run is that of params.yaml, in a temporary clone. It is killed at moments drawn
evenly over the length of an undisturbed run and started again, until it ends by itself;
then the next run begins, until there were N kills. Every run that ended must have left
the very bytes of the undisturbed one.
"""

import argparse
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

OUTPUTS = (
    "models/model.safetensors",
    "models/model.json",
    "metrics/train.json",
    "metrics/details/train.json",
    "metrics/plots/history.csv",
    "metrics/plots/steps.csv",
)
TRAIN = (sys.executable, "-u", "-m", "stages.train")
ROOT = Path(__file__).parents[2]


@dataclass
class Report:
    """What happened."""

    starts: int = 0
    kills: int = 0
    resumes: int = 0  # starts that went on from a saved state
    ended: int = 0  # runs that left all outputs, some killed just after
    different: int = 0  # of these: with another byte in an output
    lost: list[int] = field(default_factory=list)  # steps done again, at least, by kill
    slowest: float = 0.0  # seconds from a signal to the end
    codes: set[int] = field(default_factory=set)  # how killed processes ended


def start(folder: Path, output: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """The train stage of these sources, in a session of its own."""
    return subprocess.Popen(
        TRAIN,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FOURBEAT_RESUME_DIR": ".resume"},
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def outputs(folder: Path) -> dict[str, bytes]:
    """The content of each output."""
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


def digests(folder: Path) -> list[str]:
    """Of every output."""
    return [
        hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in OUTPUTS
    ]


def run_to_its_end(folder: Path) -> float:
    """Trains undisturbed; how many seconds it took."""
    began = time.monotonic()
    process = start(folder)
    output, _ = process.communicate(timeout=900)
    if process.returncode:
        sys.exit(
            f"chaos: the undisturbed run ended with {process.returncode}: {output}"
        )
    return time.monotonic() - began


def campaign(
    folder: Path, kills: int, seed: int, signals: Sequence[signal.Signals]
) -> Report:
    """Kills until it is enough, then lets the last run end.

    Args:
        folder: with params.yaml and data/prepared.
        kills: how many.
        seed: of the moments.
        signals: one is drawn for each kill.
    """
    draw, report = random.Random(seed), Report()
    seconds = run_to_its_end(folder)
    expected = digests(folder)
    trained = json.loads((folder / "metrics/details/train.json").read_text())
    steps = trained["steps"] // trained["epochs"]
    done = 0  # steps that the last start was seen to have done
    while True:
        for name in OUTPUTS:
            (folder / name).unlink(missing_ok=True)
        process = start(folder)
        report.starts += 1
        sent = None
        try:
            wait = draw.uniform(0, seconds) if report.kills < kills else 900
            output, _ = process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            sent, began = draw.choice(signals), time.monotonic()
            process.send_signal(sent)
            output, _ = process.communicate(timeout=60)
            report.slowest = max(report.slowest, time.monotonic() - began)
        finally:
            process.kill()
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
