"""Jobs that share a machine: separate cores, bit-identical results."""

import json
import os
import subprocess
import sys

import pytest

from src.data.examples import Source
from src.data.prepared import load_manifest, save_prepared
from src.resume.fingerprint import fingerprint
from src.runtime.cores import share, threads
from tests.helpers.examples import patterned
from tests.helpers.files import committed
from tests.helpers.imports import ROOT
from tests.helpers.running import run_stage

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound to cores"
)
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
two_cores = pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")
# A network whose weights depend on the number of threads; a test below shows it.
LARGE = {"model": "mlp", "hidden": 256, "batch_size": 512, "epochs": 5}

JOB = """
import json, os, subprocess, sys
from src.runtime.cores import available_cores, bound_to, share_cores
before = available_cores()
share_cores()
ask = "import os; print(sorted(os.sched_getaffinity(0)), os.environ.get('NPROC'))"
child = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
with bound_to(before):
    free = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
cores = sorted(os.sched_getaffinity(0))
output = [child.stdout.strip(), free.stdout.strip()]
print(json.dumps([cores, os.environ.get("NPROC"), *output]), flush=True)
sys.stdin.read()
"""


class Job:
    """A process that has called `share_cores`, and lives until it is ended."""

    def __init__(self, folder, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", JOB],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "TMPDIR": str(folder),
                **environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        output = json.loads(self.process.stdout.readline())
        self.cores, self.nproc, self.child, self.free = output

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.communicate()


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Removes variables that the user of the tests has set."""
    for name in ("FOURBEAT_JOBS", "NPROC", "PJRT_NPROC"):
        monkeypatch.delenv(name, raising=False)


@two_cores
def test_two_jobs_have_disjoint_cores_and_a_third_has_all(tmp_path):
    with (
        Job(tmp_path, FOURBEAT_JOBS="2") as first,
        Job(tmp_path, FOURBEAT_JOBS="2") as second,
        Job(tmp_path, FOURBEAT_JOBS="2") as third,
    ):
        assert not set(first.cores) & set(second.cores)
        assert {*first.cores, *second.cores} == CORES
        assert set(third.cores) == CORES


@two_cores
def test_cores_of_a_killed_job_are_released(tmp_path):
    with Job(tmp_path, FOURBEAT_JOBS="2"):
        with Job(tmp_path, FOURBEAT_JOBS="2") as killed:
            pass
        with Job(tmp_path, FOURBEAT_JOBS="2") as next_one:
            assert next_one.cores == killed.cores


@two_cores
def test_child_process_inherits_cores_and_threads(tmp_path):
    with Job(tmp_path, FOURBEAT_JOBS="2") as job:
        assert job.nproc == str(len(CORES))
        assert job.child == f"{job.cores} {len(CORES)}"


@two_cores
def test_detached_process_has_all_cores_and_the_job_its_share(tmp_path):
    with Job(tmp_path, FOURBEAT_JOBS="2") as job:
        assert job.free == f"{sorted(CORES)} {len(CORES)}"
        assert len(job.cores) == len(CORES) // 2


@pytest.mark.parametrize("environment", [{}, {"FOURBEAT_JOBS": ""}])
def test_without_the_variable_nothing_changes(tmp_path, environment):
    with Job(tmp_path, **environment) as job:
        assert set(job.cores) == CORES
        assert job.nproc is None
    assert not list(tmp_path.iterdir())


def test_thread_count_of_the_user_is_kept(tmp_path):
    with Job(tmp_path, FOURBEAT_JOBS="1", NPROC="7") as job:
        assert job.nproc == "7"


@pytest.mark.parametrize("cores", range(1, 9))
def test_shares_are_disjoint_equal_but_for_one_and_together_all(cores):
    listed = list(range(10, 10 + cores))
    for jobs in range(1, cores + 1):
        shares = [share(listed, jobs, number) for number in range(jobs)]
        assert [core for each in shares for core in each] == listed
        sizes = {len(each) for each in shares}
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 1


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "\u0662", "999999"])
def test_wrong_number_of_jobs_ends_with_code_two_and_one_line(
    write_params, tmp_path, value
):
    write_params()
    result = run_stage("check", tmp_path, FOURBEAT_JOBS=value)
    assert result.returncode == 2
    assert result.stderr == (
        f"check: FOURBEAT_JOBS: expected an integer in [1, {len(CORES)}], the cores "
        f"that this process may use, found {value!r}. Set it to the number of jobs at "
        "a time.\n"
    )


def test_lock_that_is_a_link_is_not_followed(write_params, tmp_path):
    write_params()
    folder = tmp_path / f"fourbeat-{os.getuid()}"
    folder.mkdir()
    (folder / "share-0").symlink_to(tmp_path / "elsewhere")
    result = run_stage("check", tmp_path, FOURBEAT_JOBS="1", TMPDIR=str(tmp_path))
    assert result.returncode == 5
    assert "share-0: " in result.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_thread_count_matches_xla(monkeypatch):
    """That XLA looks at them in this order, the weights in the last test tell."""
    assert threads() == len(CORES)
    monkeypatch.setenv("NPROC", "3")
    assert threads() == 3
    monkeypatch.setenv("PJRT_NPROC", "5")
    assert threads() == 5
    monkeypatch.setenv("PJRT_NPROC", "many")
    assert threads() == 3


def test_threads_are_part_of_the_fingerprint_and_the_share_is_not(
    prepared, params, monkeypatch
):
    manifest = load_manifest()
    alone = fingerprint(params, manifest)
    monkeypatch.setenv("NPROC", str(len(CORES)))
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0})
    assert fingerprint(params, manifest) == alone
    monkeypatch.setenv("NPROC", str(len(CORES) + 1))
    other = fingerprint(params, manifest)
    assert (other.run, other.machine != alone.machine) == (alone.run, True)


@pytest.fixture
def weights(write_params, tmp_path, monkeypatch):
    """Trains a network on 600 images in a new process; its weights."""
    monkeypatch.chdir(tmp_path)
    write_params(**LARGE)
    splits = {name: patterned(600, seed=3) for name in ("train", "validation", "test")}
    source = Source("stripes", "1", list("abc"), splits["train"], None, None)
    committed(save_prepared, source, splits)

    def train(**environment):
        result = run_stage("train", tmp_path, TMPDIR=str(tmp_path), **environment)
        assert result.returncode == 0, result.stderr
        return (tmp_path / "models/model.safetensors").read_bytes()

    return train


@pytest.mark.slow
@two_cores
def test_results_depend_on_the_thread_count_not_on_the_cores(weights):
    """And XLA counts threads as we do; one thread is the negative control."""
    one, default = weights(NPROC="1"), weights()
    assert one != default
    assert weights(NPROC="2", PJRT_NPROC="1") == one
    assert weights(NPROC="many", PJRT_NPROC="many") == default
    assert weights(FOURBEAT_JOBS="2") == default
