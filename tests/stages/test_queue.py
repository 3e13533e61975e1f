"""DVC's queue: parallel experiments are bit-identical to sequential ones."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from src.runtime.cores import threads
from tests.helpers.clone import Clone

RATES = {1e-3, 1e-2}
CHANGES = ("-S", "lr=1e-3,1e-2")
# Its bits differ with the number of threads: tests/runtime/test_cores.py shows that.
SMALL = {"hidden": 256, "batch_size": 512, "epochs": 5}
SECONDS = 900  # for two experiments of ten


def processes_in(folder):
    """The numbers of the processes that work in a folder; needs /proc."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.readlink().is_relative_to(folder):
                found.append(int(link.parent.name))
        except OSError:  # it has ended, or is somebody else's
            continue
    return found


def end_processes_in(folder):
    for _ in range(50):
        for process in (left := processes_in(folder)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        if not left:
            break
        time.sleep(0.2)


def make_clone(folder):
    folder.mkdir()
    clone = Clone(folder)
    clone.set(**SMALL)
    clone.commit("Make it small")
    return clone


@pytest.fixture
def queued(tmp_path):
    """A repository; the workers of its queue are stopped after the test."""
    clone = make_clone(tmp_path / "queued")
    try:
        yield clone
    finally:
        try:
            clone.run("dvc", "queue", "stop", "--kill")
        finally:
            end_processes_in(clone.folder)
    assert not processes_in(clone.folder)


def wait_for_queue(clone):
    """The status of the queue, once no task is queued or running."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        status = clone.run("dvc", "queue", "status")
        if not {"Queued", "Running"} & set(status.split()):
            return status
        time.sleep(4)  # each question takes a second of the cores
    raise AssertionError(status)


def results(clone):
    """The metrics and file digests of each experiment, by lr."""
    baseline = json.loads(clone.run("dvc", "exp", "show", "--json"))[1]
    found = {}
    for group in baseline["experiments"]:
        data = group["revs"][0]["data"]
        values = data["params"]["params.yaml"]["data"]
        digests = {name: out["hash"] for name, out in data["outs"].items()}
        found[values["lr"]] = (data["metrics"], digests)
    return found


@pytest.mark.slow
def test_parallel_experiments_match_sequential_ones(queued, tmp_path, monkeypatch):
    resume = tmp_path / "resume"
    with monkeypatch.context() as variables:
        variables.setenv("FOURBEAT_JOBS", str(min(2, threads())))
        variables.setenv("FOURBEAT_RESUME_DIR", str(resume))
        variables.setenv("TMPDIR", str(tmp_path))
        queued.run("dvc", "exp", "run", "--queue", *CHANGES, "train")
        queued.run("dvc", "queue", "start", "--jobs", "2")
        status = wait_for_queue(queued)
    assert status.count("Success") == len(RATES), status
    # Each experiment used a separate folder there and removed it.
    assert len(list(resume.glob("*.lock"))) == len(RATES)
    assert not [path for path in resume.iterdir() if path.is_dir()]

    alone = make_clone(tmp_path / "alone")
    for lr in sorted(RATES):
        alone.run("dvc", "exp", "run", "-S", f"lr={lr}", "train")
    expected = results(alone)
    assert expected.keys() == RATES
    assert "models/model.safetensors" in expected[1e-3][1]
    weights = {digests["models/model.safetensors"] for _, digests in expected.values()}
    assert len(weights) == len(RATES)
    assert results(queued) == expected

    lines = queued.run("python", "-m", "stages.sweep").splitlines()
    assert lines[0].split() == ["experiment", "lr", "validation.loss"]
    losses = sorted(
        metrics["metrics/train.json"]["data"]["validation"]["loss"]
        for metrics, _ in expected.values()
    )
    assert [
        float(row.split()[-1]) for row in lines[1 : 1 + len(RATES)]
    ] == pytest.approx(losses, rel=1e-5)
    assert queued.bytes("metrics/plots/sweep.png").startswith(b"\x89PNG")
