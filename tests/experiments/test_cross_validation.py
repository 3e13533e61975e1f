"""Cross-validation: no network predicts an example that it was trained on."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from src import paths
from src.config.params import Params
from src.data.examples import select
from src.data.prepared import load_manifest, load_split
from src.errors import ParameterError
from src.evaluation.predict import predict
from src.experiments.cross_validation import cross_validate, load_training_examples
from src.models.checkpoint import trained_network, weights_of
from src.training.batches import DeviceBatches, StreamedBatches
from src.training.data import TrainData, count_steps
from src.training.events import EpochEnd
from src.training.loop import fit
from src.training.state import build_state, choose_architecture, normalize_pixels
from tests.helpers.imports import ROOT
from tests.helpers.running import exit_code, run_stage

FOLDS = np.arange(100) % 2 + 1
WRITTEN = ("folds.json", "folds.npz", "doubtful.html", "doubtful_labels.csv")


def cross_validated(params, folds=FOLDS):
    manifest = load_manifest()
    train = load_training_examples(manifest, params)
    return list(cross_validate(train.examples, folds, manifest, params))


def trained_alone(params: Params, rows: np.ndarray) -> np.ndarray:
    """Predictions by a network of these examples alone; the loss selects its epoch."""
    manifest = load_manifest()
    train, validation = (load_split(each, manifest) for each in ("train", "validation"))
    data = TrainData(
        DeviceBatches(select(train, rows)), DeviceBatches(validation), classes=3
    )
    architecture = choose_architecture(params, manifest)
    architecture = normalize_pixels(architecture, params, data.train)
    steps = count_steps(len(rows), params.batch_size)
    graphdef, state = build_state(params, architecture, steps)
    losses, weights = [], []
    for event in fit(state, graphdef, data, params):
        if isinstance(event, EpochEnd):
            losses.append(event.result.validation.loss)
            weights.append(weights_of(event.model))
    best = weights[int(np.argmin(losses))]
    return predict(trained_network(architecture, best), train.images)


@pytest.mark.parametrize(
    "normalize", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_fold_is_predicted_as_by_a_run_on_the_other_examples(
    prepared, params, normalize
):
    params = params.model_copy(update={"normalize": normalize})
    found = cross_validated(params)
    assert [fold.number for fold in found] == [1, 2]
    for fold in found:
        assert fold.members.tolist() == np.flatnonzero(fold.number == FOLDS).tolist()
        expected = trained_alone(params, np.flatnonzero(fold.number != FOLDS))
        np.testing.assert_array_equal(
            fold.log_probabilities, expected[fold.members], strict=True
        )


def test_network_of_a_fold_is_trained_on_none_of_its_examples(
    prepared, params, monkeypatch
):
    seen = []
    original = DeviceBatches.blocks

    def spy(self, order, first=0):
        if len(self) == 100:  # of train; validation has 30
            seen.append(order)
        return original(self, order, first)

    monkeypatch.setattr(DeviceBatches, "blocks", spy)
    found = cross_validated(params)
    assert len(seen) == 2 * params.epochs
    for fold in found:
        epochs = seen[(fold.number - 1) * params.epochs : fold.number * params.epochs]
        trained = set(np.concatenate(epochs).ravel().tolist())
        assert trained
        assert trained <= set(np.flatnonzero(fold.number != FOLDS).tolist())
    predicted = np.concatenate([fold.members for fold in found])
    assert sorted(predicted.tolist()) == list(range(100))


@pytest.mark.slow
def test_streamed_examples_give_the_same_bits(prepared, params, monkeypatch):
    resident = cross_validated(params)
    used = []
    original = StreamedBatches.read
    monkeypatch.setattr(
        StreamedBatches, "read", lambda *values: used.append(1) or original(*values)
    )
    streamed = cross_validated(params.model_copy(update={"resident_megabytes": 0}))
    assert used
    for one, other in zip(resident, streamed, strict=True):
        np.testing.assert_array_equal(one.log_probabilities, other.log_probabilities)


@pytest.mark.slow
def test_early_stopping_ends_a_fold(prepared, params):
    stopped = params.model_copy(update={"stop_if_worse_than": 1e-9})
    assert [fold.epochs for fold in cross_validated(stopped)] == [1, 1]


def test_calibration_divides_the_logits_of_a_fold_by_one_temperature(prepared, params):
    calibrated = cross_validated(params.model_copy(update={"calibrate": True}))
    for before, after in zip(cross_validated(params), calibrated, strict=True):
        plain, found = before.log_probabilities, after.log_probabilities
        first, other = plain[:, :-1] - plain[:, -1:], found[:, :-1] - found[:, -1:]
        temperature = (first * other).sum() / (other * other).sum()  # least squares
        assert abs(temperature - 1) > 0.01
        np.testing.assert_allclose(other * temperature, first, rtol=1e-3, atol=1e-4)


def test_data_that_change_during_a_run_end_with_code_three(
    prepared, run_folds, capsys, monkeypatch
):
    manifest = load_manifest()
    changed = manifest.model_copy(
        update={"class_names": ["other", *manifest.class_names]}
    )
    answers = iter([manifest, changed])
    monkeypatch.setattr("src.data.prepared.load_manifest", lambda: next(answers))
    assert run_folds() == 3
    assert "prepare ran in the meantime" in capsys.readouterr().err
    assert not any((paths.METRICS / name).exists() for name in WRITTEN)


def test_limited_examples_are_those_of_train(prepared, params):
    limited = params.model_copy(update={"limit_examples": 40})
    train = load_training_examples(load_manifest(), limited)
    whole = load_split("train", load_manifest())
    assert len(train.rows) == 40
    assert train.rows.tolist() == sorted(set(train.rows.tolist()))
    np.testing.assert_array_equal(train.examples.labels, whole.labels[train.rows])
    np.testing.assert_array_equal(train.examples.images[:], whole.images[train.rows])


def test_overfitting_batches_is_refused(prepared, params):
    overfitting = params.model_copy(update={"overfit_batches": 1})
    with pytest.raises(ParameterError, match="overfit_batches: expected an empty"):
        load_training_examples(load_manifest(), overfitting)


@pytest.fixture
def run_folds(prepared, write_params, monkeypatch):
    """Runs the stage in the prepared folder; returns its exit code."""

    def run(*arguments, **changes):
        values = {"model": "mlp", "hidden": 8, "epochs": 1, "batch_size": 16}
        write_params(**(values | changes))
        monkeypatch.setattr(sys, "argv", ["folds", *arguments])
        return exit_code("folds", monkeypatch)

    return run


def contents():
    return {name: (paths.METRICS / name).read_bytes() for name in WRITTEN}


def test_stage_writes_four_files_and_changes_no_other(prepared, run_folds, capsys):
    (prepared / "models").mkdir()
    (prepared / "models/model.json").write_text("{}")
    (paths.PREPARED / "test.npz").write_bytes(b"damaged")  # it is not read
    assert run_folds("--folds", "3") == 0
    first = contents()
    before = {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()}
    assert run_folds("--folds", "3") == 0
    after = {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()}
    assert after == before
    assert contents() == first
    others = {path.relative_to(prepared).as_posix() for path in after}
    assert {f"metrics/{name}" for name in WRITTEN} <= others
    assert not any(name.startswith((".resume", "metrics/plots")) for name in others)

    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" images")[0] for line in lines[:3]] == [
        "fold 1: 34",
        "fold 2: 33",
        "fold 3: 33",
    ]
    assert lines[3].startswith("folds: 3 folds: accuracy 0.")
    with np.load(paths.METRICS / "folds.npz") as found:
        probabilities, folds, labels = (
            found[name] for name in ("probabilities", "folds", "labels")
        )
        assert str(found["train_sha256"]) == load_manifest().digest("train")
    assert probabilities.shape == (100, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    right = probabilities.argmax(1) == labels
    accuracies = [right[folds == number].mean() for number in (1, 2, 3)]
    scores = json.loads((paths.METRICS / "folds.json").read_text())["folds"]
    assert scores["folds"] == 3
    assert scores["accuracy"]["mean"] == pytest.approx(np.mean(accuracies), abs=1e-6)
    deviation = np.std(accuracies, ddof=1)
    found = scores["accuracy"]["standard_deviation"]
    assert found == pytest.approx(deviation, abs=1e-6)


@pytest.mark.parametrize(
    "arguments", [["--folds", "1"], ["--folds", "0"], ["--folds", "x"], ["--what"]]
)
def test_wrong_arguments_end_with_code_two(run_folds, arguments):
    assert run_folds(*arguments) == 2


def test_too_many_folds_end_with_code_two_in_one_line(run_folds, capsys):
    assert run_folds("--folds", "101") == 2
    error = capsys.readouterr().err
    assert error.startswith("folds: --folds: expected at most ")
    assert error.count("\n") == 1


def damage_train(folder):
    path = folder / "data/prepared/train.npz"
    path.write_bytes(path.read_bytes()[:-50])


def damage_files(folder):
    (folder / "data/prepared/files.csv").write_text("split,row,file,group\n")


def remove_manifest(folder):
    (folder / "data/prepared/manifest.json").unlink()


@pytest.mark.parametrize("damage", [damage_train, damage_files, remove_manifest])
def test_damaged_data_end_with_code_three_in_one_line(
    prepared, run_folds, capsys, damage
):
    damage(prepared)
    assert run_folds() == 3
    error = capsys.readouterr().err
    assert error.startswith("folds: data/prepared/")
    assert error.count("\n") == 1
    assert not (prepared / "metrics/folds.json").exists()


@pytest.mark.slow
def test_diverging_fold_leaves_no_file(prepared, run_folds):
    assert run_folds(lr=1e30, optimizer="sgd", schedule="constant") == 4
    assert not list((prepared / "metrics").glob("*folds*"))


@pytest.mark.slow
def test_bits_are_those_of_another_process(prepared, run_folds):
    assert run_folds("--folds", "2") == 0
    first = contents()
    for name in WRITTEN:
        (paths.METRICS / name).unlink()
    done = run_stage("folds", prepared, ["--folds", "2"])
    assert done.returncode == 0, done.stderr
    assert contents() == first


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_killed_run_leaves_no_file(prepared, write_params, name):
    write_params(model="mlp", hidden=8, epochs=400, batch_size=4)
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.folds", "--folds", "2"],
        cwd=prepared,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("fold 1: 50 images: ")
    process.send_signal(signal.Signals[name])
    error = process.communicate(timeout=60)[1]
    if name == "SIGTERM":
        assert process.returncode == 143
        assert error == "folds: stopped by SIGTERM, unfinished. Run it again.\n"
    left = {path.name for path in (prepared / "metrics").iterdir()}
    assert left == {"prepare.json", "details"}
