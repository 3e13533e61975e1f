"""Exit codes and error messages of stages; no partial outputs."""

import csv
import json
import os
import signal
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
from safetensors.numpy import load_file

from src.data.prepared import load_manifest, load_split
from src.evaluation.predict import predict
from src.models.checkpoint import load_trained
from src.runtime.stage import explain_error
from src.storage.json_files import SEAL
from tests.helpers.examples import patterned
from tests.helpers.files import write_record
from tests.helpers.handlers import wait_for_handlers
from tests.helpers.imports import ROOT
from tests.helpers.running import exit_code, run_python, run_stage

RUNNER = """
import sys
from src.errors import {error}
from src.runtime.stage import run_stage

def main(params, context):
    raise {error}("here: expected this,\\nfound that. Mend it.")

run_stage("train", main)
"""


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
    result = run_python(["-c", RUNNER.format(error=error)], write_params().parent)
    assert result.returncode == code
    assert result.stderr == "train: here: expected this, found that. Mend it.\n"


def test_a_bug_keeps_its_traceback_and_exits_one(write_params):
    source = RUNNER.format(error="DataError").replace(
        "raise DataError", "raise KeyError"
    )
    result = run_python(["-c", source], write_params().parent)
    assert result.returncode == 1
    assert "Traceback" in result.stderr


WITHOUT_OPTIONS = pytest.mark.parametrize(
    "stage", ["check", "prepare", "train", "evaluate", "export", "report", "lr_range"]
)


@WITHOUT_OPTIONS
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_prints_the_docstring_of_the_stage_and_runs_nothing(
    tmp_path, stage, option
):
    result = run_stage(stage, tmp_path, [option])
    assert result.returncode == 0
    assert result.stderr == ""
    first, _, described = result.stdout.partition("\n\n")
    assert first == f"usage: python -m stages.{stage} [--help]"
    assert described == import_module(f"stages.{stage}").__doc__
    assert not list(tmp_path.iterdir())


@WITHOUT_OPTIONS
def test_any_other_word_is_code_two_and_runs_nothing(tmp_path, stage):
    result = run_stage(stage, tmp_path, ["--epochs", "3"])
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"{stage}: expected no arguments, found '--epochs'. "
        "Set parameters in params.yaml.\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_code_five_with_its_path(write_params):
    folder = write_params(data_path=ROOT / "data/raw").parent
    (folder / "data").write_text("a file where a folder should be")
    result = run_stage("prepare", folder)
    assert result.returncode == 5
    assert result.stderr.startswith("prepare: data: File exists")
    assert result.stderr.count("\n") == 1


def test_full_disk_is_code_five_and_leaves_no_partial_file(write_params):
    folder = write_params(data_path=ROOT / "data/raw").parent
    source = (
        "import resource, runpy, signal;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000));"
        "runpy.run_module('stages.prepare', run_name='__main__')"
    )
    result = run_python(["-c", source], folder)
    assert result.returncode == 5
    assert result.stderr.count("\n") == 1
    assert [path for path in folder.rglob("*") if path.is_file()] == [
        folder / "params.yaml"
    ]


SIGNALS = pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)],
)


def start_training():
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "stages.train"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@SIGNALS
def test_stopped_training_prints_one_line_and_writes_nothing(
    prepared, write_params, number, code
):
    write_params(model="mlp", epochs=100000, batch_size=4)
    process = start_training()
    try:
        while "epoch" not in process.stdout.readline():
            assert process.poll() is None, process.stderr.read()
        process.send_signal(number)
        _, stderr = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == code
    name = signal.Signals(number).name
    assert stderr == f"train: stopped by {name}, unfinished. Run it again.\n"
    assert not (prepared / "models").exists()
    assert not (prepared / "metrics/train.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("delay", "number"),
    [
        *((seconds, signal.SIGTERM) for seconds in (0.0, 1.0, 3.0)),
        *((seconds, signal.SIGINT) for seconds in (0.0, 2.0)),
    ],
)
def test_signal_at_any_moment_of_the_start_ends_with_its_code(
    prepared, write_params, number, delay
):
    write_params(model="cnn_max", epochs=100000)
    process = start_training()
    try:
        wait_for_handlers(process)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delay)  # any moment will do
        process.send_signal(number)
        _, stderr = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 128 + number, stderr
    # The second where a compilation outlasted the time that there is.
    ends = "train: stopped by SIG", "stopped by SIG"
    assert stderr.splitlines()[-1].startswith(ends)
    assert not (prepared / "models").exists()


def test_diverged_training_is_code_four_with_the_step_named(
    prepared, write_params, monkeypatch, capsys
):
    write_params(model="mlp", optimizer="sgd", schedule="constant", lr="1e30")
    assert exit_code("train", monkeypatch) == 4
    error = capsys.readouterr().err
    assert "train: step " in error
    assert "gradient norm" in error
    assert error.count("\n") == 1
    assert not (prepared / "models").exists()


def test_missing_input_names_the_stage_that_creates_it(
    write_params, monkeypatch, capsys
):
    monkeypatch.chdir(write_params().parent)
    assert exit_code("train", monkeypatch) == 3
    assert capsys.readouterr().err == (
        "train: data/prepared/manifest.json: expected a file, found none. "
        "Prepare it again: dvc repro prepare\n"
    )


def metrics(folder, name):
    return json.loads((folder / f"metrics/{name}.json").read_text())


def history(folder):
    with (folder / "metrics/plots/history.csv").open() as file:
        return [float(row["validation_loss"]) for row in csv.DictReader(file)]


def numpy_loss(weights, images, labels):
    """The mean loss of the saved network, by hand."""
    weights = {name: array.astype(np.float64) for name, array in weights.items()}
    hidden = images.reshape(len(images), -1) / 255 @ weights["dense.kernel"]
    hidden = np.maximum(hidden + weights["dense.bias"], 0)
    logits = hidden @ weights["output.kernel"] + weights["output.bias"]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    return losses.mean()


@pytest.mark.slow
def test_best_epoch_is_saved_and_matches_the_history(
    prepared, write_params, monkeypatch
):
    found = {}
    for mode, choose in (("min", min), ("max", max)):
        write_params(model="mlp", hidden=8, epochs=5, lr=0.02, monitor_mode=mode)
        assert exit_code("train", monkeypatch) == 0
        losses = history(prepared)
        best = losses.index(choose(losses)) + 1
        assert metrics(prepared, "train")["best_epoch"] == best
        weights = load_file(prepared / "models/model.safetensors")
        found[mode] = numpy_loss(weights, *patterned(30, seed=2))
        assert found[mode] == pytest.approx(choose(losses), abs=1e-5)
    assert found["min"] != found["max"]


@pytest.mark.slow
def test_all_stages_agree_on_the_predictions(prepared, write_params):
    write_params(model="mlp", hidden=8, epochs=3, lr=0.02)
    for stage in ("train", "evaluate", "export"):
        result = run_stage(stage, prepared)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
    accuracy = metrics(prepared, "test")["test"]["accuracy"]
    assert (
        metrics(prepared, "details/export")["export"]["stablehlo"]["accuracy"]
        == accuracy
    )
    with (prepared / "metrics/plots/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    right = [row["actual"] == row["predicted"] for row in rows]
    assert np.mean(right) == pytest.approx(accuracy, abs=1e-6)
    assert all(1 / 3 <= float(row["confidence"]) <= 1 for row in rows)
    with (prepared / "metrics/plots/history.csv").open() as file:
        assert all(float(row["lr"]) > 0 for row in csv.DictReader(file))


def test_classes_too_small_to_split_are_refused(
    tmp_path, write_params, monkeypatch, capsys
):
    images = np.zeros((2, 4, 4, 1), np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=np.array([0, 1]))
    write_params(dataset="npz", data_path=tmp_path)
    monkeypatch.chdir(tmp_path)
    assert exit_code("prepare", monkeypatch) == 3
    assert "Add more images" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_five_skipped_steps_in_a_row_are_code_four(
    prepared, write_params, monkeypatch, capsys
):
    write_params(
        model="mlp",
        batch_size=8,
        optimizer="momentum",
        schedule="constant",
        lr="1e38",
        on_nan="skip",
    )
    assert exit_code("train", monkeypatch) == 4
    error = capsys.readouterr().err
    assert "(epoch " in error
    assert "after 4 skipped" in error
    assert not (prepared / "models").exists()


@pytest.mark.slow
def test_early_stopping_is_recorded_with_ema_and_bfloat16(
    prepared, write_params, monkeypatch, capsys
):
    write_params(
        model="cnn",
        hidden=8,
        batch_size=16,
        patience=1,
        min_delta=9.0,
        precision="bfloat16",
        ema_decay=0.9,
    )
    assert exit_code("train", monkeypatch) == 0
    assert "stopped by patience: 1 epochs without" in capsys.readouterr().out
    assert metrics(prepared, "train")["best_epoch"] == 1
    assert metrics(prepared, "details/train")["epochs"] == 2
    record = json.loads((prepared / "models/model.json").read_text())
    assert record["stopped"].startswith("patience: 1 epochs")
    assert record["epoch"] == 1
    weights = load_file(prepared / "models/model.safetensors")
    assert {array.dtype for array in weights.values()} == {np.dtype("float32")}
    validation = json.loads((prepared / "metrics/train.json").read_text())["validation"]
    # The evaluation code computes the recorded validation loss for the saved weights.
    saved = load_trained(load_manifest())
    images, labels = load_split("validation", load_manifest())
    scores = predict(saved.model, images)
    loss = -float(scores[np.arange(len(labels)), labels].mean())
    assert loss == pytest.approx(validation["loss"], abs=2e-6)
    assert exit_code("evaluate", monkeypatch) == 0


def test_class_that_is_never_predicted_is_warned_of_once(
    prepared, write_params, monkeypatch, capsys
):
    write_params(model="mlp", hidden=5, batch_size=16, epochs=1, lr=1e-9)
    never = "warning: the model never predicts "
    assert exit_code("train", monkeypatch) == 0
    assert capsys.readouterr().err.startswith(f"train: {never}")
    assert exit_code("evaluate", monkeypatch) == 0
    assert capsys.readouterr().err == ""
    # As if validation had not shown it.
    path = prepared / "models/model.json"
    record = json.loads(path.read_text())
    del record[SEAL]
    write_record(path, {**record, "warning": ""})
    assert exit_code("evaluate", monkeypatch) == 0
    assert capsys.readouterr().err.startswith(f"evaluate: {never}")


@pytest.mark.parametrize(
    ("module", "repair"),
    [
        ("onnx", "make setup"),
        ("src.models.mine", "git add it"),
        ("srcset", "make setup"),
    ],
)
def test_missing_module_is_named_with_what_to_do(module, repair):
    message, code = explain_error(ModuleNotFoundError(name=module))
    assert code == 2
    assert f"expected the module {module}, found none" in message
    assert repair in message
