"""DVC's own queue: experiments side by side give the bits of those run one by one."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from src.runtime.cores import threads
from tests.helpers.clone import Clone

CHANGES = ("-S", "lr=1e-3,1e-2", "-S", "seed=0,1")
PAIRS = {(lr, seed) for lr in (1e-3, 1e-2) for seed in (0, 1)}
# Its bits differ with the number of threads: tests/runtime/test_cores.py shows that.
SMALL = {"hidden": 256, "batch_size": 512, "epochs": 5}
SECONDS = 900  # for four experiments of ten


def processes_in(folder):
    """The processes at work there, by number; not on every system can it be told."""
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
    """A repository whose queue's workers end with the test, however that ends."""
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
    """What the queue says of its tasks once none waits or runs."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        status = clone.run("dvc", "queue", "status")
        if not {"Queued", "Running"} & set(status.split()):
            return status
        time.sleep(4)  # each question takes a second of the cores
    raise AssertionError(status)


def results(clone):
    """Of each experiment, by lr and seed: its metrics, and the digests of its files."""
    baseline = json.loads(clone.run("dvc", "exp", "show", "--json"))[1]
    found = {}
    for group in baseline["experiments"]:
        data = group["revs"][0]["data"]
        values = data["params"]["params.yaml"]["data"]
        digests = {name: out["hash"] for name, out in data["outs"].items()}
        found[values["lr"], values["seed"]] = (data["metrics"], digests)
    return found


@pytest.mark.slow
def test_four_queued_experiments_two_at_a_time_give_the_bits_of_four_one_by_one(
    queued, tmp_path, monkeypatch
):
    resume = tmp_path / "resume"
    with monkeypatch.context() as variables:
        variables.setenv("FOURBEAT_JOBS", str(min(2, threads())))
        variables.setenv("FOURBEAT_RESUME_DIR", str(resume))
        variables.setenv("TMPDIR", str(tmp_path))
        queued.run("dvc", "exp", "run", "--queue", *CHANGES, "evaluate")
        queued.run("dvc", "queue", "start", "--jobs", "2")
        status = wait_for_queue(queued)
    assert status.count("Success") == len(PAIRS), status
    # Each had a folder of its own there, and left none behind.
    assert len(list(resume.glob("*.lock"))) == len(PAIRS)
    assert not [path for path in resume.iterdir() if path.is_dir()]

    alone = make_clone(tmp_path / "alone")
    for lr, seed in sorted(PAIRS):
        changes = ("-S", f"lr={lr}", "-S", f"seed={seed}")
        alone.run("dvc", "exp", "run", *changes, "evaluate")
    expected = results(alone)
    assert expected.keys() == PAIRS
    assert "models/model.safetensors" in expected[1e-3, 0][1]
    weights = {digests["models/model.safetensors"] for _, digests in expected.values()}
    assert len(weights) == len(PAIRS)
    assert results(queued) == expected

    told = queued.run("python", "-m", "stages.sweep").splitlines()
    assert told[0].split() == ["experiment", "seed", "lr", "validation.loss"]
    losses = sorted(
        metrics["metrics/train.json"]["data"]["validation"]["loss"]
        for metrics, _ in expected.values()
    )
    assert [
        float(row.split()[-1]) for row in told[1 : 1 + len(PAIRS)]
    ] == pytest.approx(losses, rel=1e-5)
    assert queued.bytes("metrics/plots/sweep.png").startswith(b"\x89PNG")
