"""How stages end: exit codes, one line, nothing half-written."""

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import run_stage
from tests.imports import ROOT

RUNNER = """
import sys
from src.errors import {error}
from src.stage import run_stage

def main(params):
    raise {error}("here: expected this,\\nfound that. Mend it.")

run_stage("train", main)
"""


def run_main(source, folder):
    return subprocess.run(
        [sys.executable, "-c", source],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("ParameterError", 2),
        ("DataError", 3),
        ("DivergedError", 4),
        ("StorageError", 5),
    ],
)
def test_each_error_has_its_exit_code_and_one_line(write_params, error, code):
    result = run_main(RUNNER.format(error=error), write_params().parent)
    assert result.returncode == code
    assert result.stderr == "train: here: expected this, found that. Mend it.\n"


def test_a_bug_keeps_its_traceback_and_exits_one(write_params):
    source = RUNNER.format(error="DataError").replace(
        "raise DataError", "raise KeyError"
    )
    result = run_main(source, write_params().parent)
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_a_folder_that_cannot_be_written_is_code_five_with_its_path(write_params):
    folder = write_params(data_path=ROOT / "data/raw").parent
    (folder / "data").write_text("a file where a folder should be")
    result = run_stage("prepare", folder)
    assert result.returncode == 5
    assert result.stderr.startswith("prepare: data/prepared: ")
    assert result.stderr.count("\n") == 1


def test_full_disk_is_code_five_and_leaves_no_part(write_params):
    folder = write_params(data_path=ROOT / "data/raw").parent
    source = (
        "import resource, runpy, signal;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000));"
        "runpy.run_module('stages.prepare', run_name='__main__')"
    )
    result = run_main(source, folder)
    assert result.returncode == 5
    assert result.stderr.count("\n") == 1
    assert [path for path in folder.rglob("*") if path.is_file()] == [
        folder / "params.yaml"
    ]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_stopped_training_says_so_and_writes_nothing(
    prepared, write_params, number, code
):
    write_params(model="mlp", epochs=100000, batch_size=4)
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "stages.train"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "epoch" not in process.stdout.readline():
        assert process.poll() is None, process.stderr.read()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert stderr.startswith("train: stopped by SIG")
    assert not (prepared / "models").exists()
    assert not (prepared / "metrics").exists()


def test_diverged_training_is_code_four_with_the_step_named(prepared, write_params):
    write_params(model="mlp", optimizer="sgd", schedule="constant", lr="1e30")
    result = run_stage("train", prepared)
    assert result.returncode == 4
    assert "train: step " in result.stderr
    assert "gradient norm" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (prepared / "models").exists()


def test_stage_without_its_input_says_which_stage_makes_it(write_params):
    result = run_stage("train", write_params().parent)
    assert result.returncode == 3
    assert result.stderr == (
        "train: data/prepared/manifest.json: expected a file, found none. "
        "Make it anew: dvc repro prepare\n"
    )
