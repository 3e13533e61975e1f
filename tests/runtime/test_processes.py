"""One training run in several processes on this machine."""

import csv
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import cache

import numpy as np
import pytest

from src.errors import ParameterError
from src.runtime import launch, processes
from src.runtime.launch import launched, read_environment, share_threads
from src.training.batches import StreamedBatches
from tests.helpers.chaos import OUTPUTS
from tests.helpers.examples import patterned
from tests.helpers.groups import (
    LONG,
    SHORT,
    STAGE,
    Group,
    patched,
    trained,
)
from tests.helpers.imports import ROOT
from tests.helpers.prepared import write_params_file, write_prepared
from tests.helpers.running import run_stage

SAVES_OFTEN = "import src.resume.resume as r; r.EPOCH_PAUSE, r.COST_FACTOR = -1.0, 0"
# Seconds to wait for an end; JAX's heartbeat takes 10.
GIVEN_UP = 120


def digests(folder):
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in OUTPUTS
    }


def no_outputs(folder):
    return not [name for name in OUTPUTS if (folder / name).exists()]


def remove_outputs(folder):
    for name in OUTPUTS:
        (folder / name).unlink(missing_ok=True)


def losses(folder, table="steps", column="train_loss"):
    with (folder / f"metrics/plots/{table}.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file)]


def states(folder):
    return sorted((folder / ".resume").glob("*/state-*.snapshot"))


def curves(folder):
    """The losses by step and by epoch."""
    return losses(folder), losses(folder, "history", "validation_loss")


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """Gives the curves of a run in one process; runs with equal changes share them."""

    @cache
    def run(**changes):
        folder = tmp_path_factory.mktemp("one_process")
        write_prepared(folder)
        write_params_file(folder, **changes)
        result = run_stage("train", folder)
        assert result.returncode == 0, result.stderr
        return curves(folder)

    return run


@pytest.mark.slow
def test_two_processes_match_one_and_write_outputs_once(
    prepared, write_params, one_process
):
    write_params(**SHORT)
    group = trained(prepared)
    found = curves(prepared)
    assert [len(column) for column in found] == [120, 20]
    for ours, expected in zip(found, one_process(**SHORT), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5)
    assert group.epochs() == 20
    assert len(group.out(1)) == 1, "process 1 says its last line alone"
    assert not states(prepared)


@pytest.mark.slow
def test_two_runs_in_four_processes_are_bit_identical(
    prepared, write_params, one_process
):
    """A sum of two does not depend on the order; a sum of four does."""
    write_params(**SHORT)
    trained(prepared, 4)
    np.testing.assert_allclose(losses(prepared), one_process(**SHORT)[0], rtol=1e-5)
    first = digests(prepared)
    remove_outputs(prepared)
    trained(prepared, 4)
    assert digests(prepared) == first


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("mpirun"), reason="needs mpirun")
def test_processes_of_mpirun_match_one_process(prepared, write_params, one_process):
    write_params(**SHORT)
    root = ["--allow-run-as-root"] if os.getuid() == 0 else []
    command = ["mpirun", *root, "--oversubscribe", "-n", "2", sys.executable, *STAGE]
    result = subprocess.run(
        command,
        cwd=prepared,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert len(re.findall("^epoch", result.stdout, re.MULTILINE)) == 20
    np.testing.assert_allclose(losses(prepared), one_process(**SHORT)[0], rtol=1e-5)


@pytest.mark.slow
def test_processes_killed_and_stopped_match_an_uninterrupted_run(
    prepared, write_params
):
    """Either process is killed once, and stopped by a signal once."""
    write_params(**{**LONG, "epochs": 60})
    trained(prepared)
    expected, draw = digests(prepared), random.Random(10)
    remove_outputs(prepared)
    stops = [(signal.SIGKILL, 0), (signal.SIGTERM, 1), (signal.SIGKILL, 1)]
    for number, victim in [*stops, (signal.SIGTERM, 0)]:
        saved = bool(states(prepared))
        with Group(prepared, patched(SAVES_OFTEN, process="01")) as group:
            group.until(epochs=draw.randrange(1, 9))
            group.until_saved()
            time.sleep(draw.uniform(0, 0.2))  # any moment will do
            group.members[victim].send_signal(number)
            codes = group.wait(GIVEN_UP)
        if number == signal.SIGKILL:
            assert codes[victim] == -signal.SIGKILL
            # Of process 0 jax's own runtime may notice first; it aborts.
            assert codes[1 - victim] in {5, -signal.SIGABRT}, group.err(1 - victim)
        else:
            assert codes == [143, 143], group.err(0) + group.err(1)
        assert no_outputs(prepared)
        assert group.out(0)[0].startswith("train: resuming in epoch") == saved
    trained(prepared)
    assert digests(prepared) == expected


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_hanging_process_times_out(prepared, write_params, victim):
    write_params(**LONG)
    line = "import src.runtime.processes as p; p.HEARTBEAT_SECONDS = 3"
    with Group(prepared, patched(line, process="01")) as group:
        group.until(epochs=5)
        group.members[victim].send_signal(signal.SIGSTOP)
        other = group.members[1 - victim]
        assert other.wait(GIVEN_UP) != 0, group.err(1 - victim)
    assert no_outputs(prepared)


@pytest.mark.slow
def test_divergence_ends_both_processes_with_one_line(prepared, write_params):
    changes = {"optimizer": "sgd", "schedule": "constant", "lr": 1e30}
    write_params(**{**SHORT, **changes, "warmup_epochs": 0})
    with Group(prepared, (STAGE, STAGE)) as group:
        assert group.wait() == [4, 4], group.err(0)
    for number in (0, 1):
        (line,) = group.err(number).splitlines()
        assert line.startswith(f"train, process {number} of 2: step ")


def test_wrong_parameter_ends_both_before_jax_is_imported(prepared, write_params):
    write_params(batch_size=-1)
    without = patched("sys.modules['jax'] = None", process="01")
    with Group(prepared, without) as group:
        assert group.wait() == [2, 2], group.err(0)
    for number in (0, 1):
        (line,) = group.err(number).splitlines()
        assert line.startswith("train: params.yaml: batch_size: ")


@pytest.mark.slow
def test_output_that_cannot_be_written_fails_every_process(prepared, write_params):
    write_params(**{**SHORT, "epochs": 2})
    (prepared / "models").write_text("in the way")
    with Group(prepared, (STAGE, STAGE)) as group:
        codes = group.wait()
    assert codes[0] == 5, group.err(0)
    assert codes[1] in {5, -signal.SIGABRT}, group.err(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"patience": 1, "min_delta": 10}, "patience", id="patience"),
        pytest.param({"max_minutes": 0.02}, "max_minutes", id="max_minutes"),
    ],
)
def test_both_processes_stop_early_at_the_same_epoch(
    prepared, write_params, changes, reason
):
    write_params(**{**LONG, "epochs": 3000, **changes})
    group = trained(prepared)
    last = [group.out(number)[-1].partition(": ")[2] for number in (0, 1)]
    assert last[0] == last[1]
    assert f"(stopped by {reason}" in last[0]


@pytest.mark.slow
def test_skipped_step_is_skipped_in_both(prepared, write_params):
    write_params(**{**SHORT, "on_nan": "skip", "precision": "float16", "lr": 0.01})
    line = (
        "import src.training.loss_scale; src.training.loss_scale.FIRST_SCALE = 2.0**20"
    )
    trained(prepared, commands=patched(line, process="01"))
    assert sum(losses(prepared, column="skipped")) > 0


@pytest.mark.slow
def test_bug_in_one_process_keeps_its_traceback_and_ends_the_other(
    prepared, write_params
):
    write_params(**SHORT)
    line = "import src.training.loop as loop; loop.check_validation = lambda *_: 1 / 0"
    with Group(prepared, patched(line)) as group:
        codes = group.wait()
    assert codes[1] == 1
    assert "Traceback" in group.err(1)
    assert "ZeroDivisionError" in group.err(1)
    assert codes[0] in {5, -signal.SIGABRT}, group.err(0)
    assert no_outputs(prepared)


@pytest.mark.slow
def test_snapshot_of_two_processes_is_resumed_by_one(
    prepared, write_params, one_process
):
    changes = {**LONG, "epochs": 60, "log_every": 1}
    write_params(**changes)
    undisturbed, _ = one_process(**changes)
    with Group(prepared) as group:
        group.until(epochs=5)
        group.members[-1].terminate()
        assert group.wait(GIVEN_UP) == [143, 143], group.err(0)
    group = trained(prepared, 1)
    line = group.out(0)[0]
    found = re.match(r"train: resuming in epoch (\d+).*, from \.resume/", line)
    assert found, line
    steps = len(undisturbed) // 60
    here = (int(found[1]) - 1) * steps
    np.testing.assert_allclose(
        losses(prepared)[: here + 20], undisturbed[: here + 20], rtol=1e-5
    )
    assert ", begun on another machine, " in group.out(0)[-1]
    assert not states(prepared)


# ---- The environment variables ----


def environment_of(where="localhost:1234", count="2", number="1"):
    names = launch.COORDINATOR, launch.PROCESSES, launch.PROCESS_ID
    given = zip(names, (where, count, number), strict=True)
    return {name: value for name, value in given if value is not None}


def test_environment_names_coordinator_count_and_number():
    assert read_environment(environment_of()) == ("localhost:1234", 2, 1)
    assert read_environment(environment_of("[::1]:80", "1", "0")) == ("[::1]:80", 1, 0)


@pytest.mark.parametrize("empty", [{}, environment_of("", "", "")])
def test_empty_environment_means_one_process(empty):
    assert read_environment(empty) is None


@pytest.mark.parametrize(
    ("given", "name", "found"),
    [
        (environment_of(where=None), "COORDINATOR", "''"),
        (environment_of(where="localhost"), "COORDINATOR", "'localhost'"),
        (environment_of(where="localhost:"), "COORDINATOR", "'localhost:'"),
        (environment_of(where=":1234"), "COORDINATOR", "':1234'"),
        (environment_of(where="localhost:0"), "COORDINATOR", "'localhost:0'"),
        (environment_of(where="localhost:65536"), "COORDINATOR", "'localhost:65536'"),
        (environment_of(where="localhost:http"), "COORDINATOR", "'localhost:http'"),
        (environment_of(where=None, count=None), "COORDINATOR", "''"),
        (environment_of(where=None, number=None), "COORDINATOR", "''"),
        (environment_of(count=None), "PROCESSES", "''"),
        (environment_of(count=None, number=None), "PROCESSES", "''"),
        (environment_of(count="0"), "PROCESSES", "'0'"),
        (environment_of(count="-2"), "PROCESSES", "'-2'"),
        (environment_of(count="two"), "PROCESSES", "'two'"),
        (environment_of(number=None), "PROCESS_ID", "''"),
        (environment_of(number="2"), "PROCESS_ID", "'2'"),
        (environment_of(number="-1"), "PROCESS_ID", "'-1'"),
        (environment_of(number="1.0"), "PROCESS_ID", "'1.0'"),
        (environment_of(number="\u00b2"), "PROCESS_ID", "'\u00b2'"),
    ],
)
def test_wrong_environment_is_named(given, name, found):
    with pytest.raises(ParameterError) as caught:
        read_environment(given)
    assert str(caught.value).startswith(f"FOURBEAT_{name}: expected ")
    assert f", found {found}. Set FOURBEAT_COORDINATOR, " in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "many"}, False),
        ({"SLURM_STEP_NUM_TASKS": "2"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "16"}, True),
        ({"SLURM_STEP_NUM_TASKS": "1", "OMPI_COMM_WORLD_SIZE": "2"}, True),
    ],
)
def test_launcher_of_several_processes_is_detected(variables, expected):
    assert launched(variables) == expected


@pytest.mark.parametrize("package", [None, object()])
def test_indexed_job_of_kubernetes_needs_its_package(monkeypatch, package):
    monkeypatch.setattr(launch, "find_spec", lambda name: package)
    assert launched({"JOB_COMPLETION_INDEX": "0"}) == (package is not None)


@pytest.mark.parametrize(
    ("variables", "where", "threads", "expected"),
    [
        pytest.param({}, ("localhost:1", 4, 0), 8, "2", id="localhost"),
        pytest.param({}, ("127.0.0.1:1", 3, 0), 8, "2", id="127.0.0.1"),
        pytest.param({}, ("[::1]:1", 2, 0), 8, "4", id="::1"),
        pytest.param({}, ("localhost:1", 99, 0), 8, "1", id="more than cores"),
        pytest.param({}, ("localhost:1", 1, 0), 8, None, id="one process"),
        pytest.param({}, ("10.0.0.1:1", 4, 0), 8, None, id="several machines"),
        pytest.param({}, None, 8, None, id="launcher that says nothing"),
        pytest.param(
            {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
            None,
            8,
            "4",
            id="launcher's local size",
        ),
        pytest.param(
            {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, None, 4, None, id="bound to cores"
        ),
        pytest.param({"NPROC": "8"}, ("localhost:1", 4, 0), 8, "8", id="NPROC given"),
    ],
)
def test_threads_are_divided_among_processes_of_one_machine(
    monkeypatch, variables, where, threads, expected
):
    monkeypatch.setattr(launch, "threads", lambda: threads)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    share_threads(variables, where)
    assert variables.get("NPROC") == expected


def test_single_process_never_joins(monkeypatch):
    for name in (*environment_of(), *launch.LAUNCHERS, "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    joined = []
    monkeypatch.setattr("jax.distributed.initialize", lambda *_, **__: joined.append(1))
    processes.init_distributed()
    assert not joined
    assert processes.is_single_process()
    assert processes.is_main_process()


# ---- Each process's share of the data ----


class Counted:
    """Images that remember which of them were read."""

    def __init__(self, images):
        self.images, self.shape, self.read = images, images.shape, []

    def __getitem__(self, rows):
        self.read += rows.tolist()
        return self.images[rows]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_process_reads_its_share_of_each_batch_alone(monkeypatch, number):
    share = slice(number * 4, number * 4 + 4)
    monkeypatch.setattr("src.training.batches.local_slice", lambda batch: share)
    split = patterned(60, seed=0)
    order = np.random.default_rng(1).permutation(60).reshape(5, 12).astype(np.int32)
    images = Counted(split.images)
    (block,) = StreamedBatches(split._replace(images=images)).blocks(order)
    assert images.read == order[:, share].reshape(-1).tolist()
    np.testing.assert_array_equal(block.examples.images, split.images[order[:, share]])
    np.testing.assert_array_equal(block.examples.labels, split.labels[order])
