"""`calibrate`: one temperature in the output layer, and nothing else changes."""

import csv
import json
from contextlib import chdir
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pydantic import TypeAdapter
from safetensors.numpy import load

from src import paths
from src.data.prepared import load_manifest, load_split
from src.errors import ParameterError
from src.evaluation.metrics import expected_calibration_error
from src.evaluation.temperature import fit_temperature
from src.models.architecture import Architecture
from src.models.build import MODELS, build_model
from src.models.checkpoint import weights_of
from src.models.mlp import MLP
from src.training.batches import DeviceBatches
from src.training.calibration import (
    calibrate,
    divide,
    find_output_layer,
    logits_of,
)
from tests.helpers.examples import patterned
from tests.helpers.prepared import write_noisy, write_params_file
from tests.helpers.running import exit_code
from tests.helpers.stage_outputs import STAGE_OUTPUTS

PREDICTIONS = str(paths.PREDICTIONS)
RUN = {
    "model": "mlp",
    "hidden": 32,
    "batch_size": 10,
    "epochs": 2,
    "dropout": 0.0,
    "lr": 0.01,
}
LAYERS = {"resnet18": "fc"}


def network(name, shape=(8, 8, 1), seed=0):
    architecture = Architecture(name, 8, 0.0, shape, 3, filters=4, blocks=1)
    return architecture, weights_of(build_model(architecture, nnx.Rngs(seed)))


@pytest.mark.parametrize(
    "name",
    [
        "mlp",
        "cnn",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("resnet", "resnet18")
        ),
    ],
)
def test_output_layer_of_each_model_is_found(name, monkeypatch):
    monkeypatch.setattr("src.training.validation.FORWARD_BATCH", 16)
    shape = (32, 32, 3) if name == "resnet18" else (8, 8, 1)
    architecture, weights = network(name, shape)
    split = DeviceBatches(patterned(10, seed=1, shape=shape))
    layer = LAYERS.get(name, "output")
    found = find_output_layer(weights, architecture, split)
    assert found == [f"{layer}.bias", f"{layer}.kernel"]


class Bounded(MLP):
    """Its logits are no linear function of the output layer."""

    def __call__(self, images, rngs=None):
        return 5 * jnp.tanh(super().__call__(images, rngs))


class TwoHeads(MLP):
    """Its logits are the sum of two layers."""

    def __init__(self, architecture, rngs):
        super().__init__(architecture, rngs)
        pixels = np.prod(architecture.image_shape)
        self.linear = nnx.Linear(pixels, architecture.classes, rngs=rngs)

    def __call__(self, images, rngs=None):
        pixels = self.normalize(images).reshape(len(images), -1)
        return super().__call__(images, rngs) + self.linear(pixels)


def test_network_without_a_linear_output_layer_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(MODELS, "mlp", Bounded)
    split = DeviceBatches(patterned(10, seed=1))
    with pytest.raises(ParameterError) as refused:
        find_output_layer(*reversed(network("mlp")), split)
    message = str(refused.value)
    assert message.startswith("params.yaml: calibrate: expected logits that ")
    assert "output.bias, output.kernel of tests/training/test_calibration.py" in message
    assert message.endswith("or set calibrate: false.")
    assert "\n" not in message


def test_all_heads_of_a_network_that_adds_them_are_divided(monkeypatch):
    monkeypatch.setitem(MODELS, "mlp", TwoHeads)
    architecture, weights = network("mlp")
    split = DeviceBatches(patterned(40, seed=1))
    head = find_output_layer(weights, architecture, split)
    assert {name.split(".")[0] for name in head} == {"output", "linear"}
    found = calibrate(weights, architecture, head, split)
    expected = logits_of(weights, architecture, split) / found.temperature
    logits = logits_of(found.weights, architecture, split)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7, 19.0])
def test_no_prediction_changes_and_ties_stay_ties(temperature):
    architecture, weights = network("mlp", seed=3)
    # The last two classes always tie: they have the same weights.
    kernel = weights["output.kernel"]
    kernel[:, 2] = kernel[:, 1]
    split = DeviceBatches(patterned(600, seed=2))
    before = logits_of(weights, architecture, split)
    names = ["output.bias", "output.kernel"]
    after = logits_of(divide(weights, names, temperature), architecture, split)
    np.testing.assert_array_equal(before[:, 1], before[:, 2])
    np.testing.assert_array_equal(after[:, 1], after[:, 2])
    np.testing.assert_array_equal(after.argmax(1), before.argmax(1))
    assert len(set(after.argmax(1))) > 1


def read(path):
    return json.loads(path.read_text())


def train(folder, monkeypatch, stages=("train",), **changes):
    """Runs stages in a folder with these parameters; returns what they wrote."""
    write_params_file(folder, **{**RUN, **changes})
    with chdir(folder):
        for stage in stages:
            assert exit_code(stage, monkeypatch) == 0
        names = STAGE_OUTPUTS["train"] + STAGE_OUTPUTS["evaluate"]
        return {name: Path(name).read_bytes() for name in names if Path(name).exists()}


@pytest.fixture
def noisy(tmp_path):
    write_noisy(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The files of a run without `calibrate`, and of the same one with it."""
    folder = tmp_path_factory.mktemp("both")
    write_noisy(folder)
    with pytest.MonkeyPatch.context() as patch:
        return [
            train(folder, patch, ("train", "evaluate"), calibrate=calibrate)
            for calibrate in ("false", "true")
        ]


def parsed(files, name):
    return json.loads(files[name])


def test_only_the_output_layer_changes_and_it_is_divided(both):
    plain, calibrated = (load(files["models/model.safetensors"]) for files in both)
    temperature = parsed(both[1], "models/model.json")["temperature"]
    assert 0.05 < temperature < 20
    for name, expected in plain.items():
        if name.startswith("output."):
            expected = (expected.astype(np.float64) / temperature).astype(np.float32)
        np.testing.assert_array_equal(calibrated[name], expected)
    same = ("metrics/train.json", "metrics/plots/history.csv")
    assert all(both[0][name] == both[1][name] for name in same)
    assert "temperature" not in parsed(both[0], "models/model.json")
    assert "calibration" not in parsed(both[0], "metrics/details/train.json")


def test_scores_before_and_after_are_those_of_the_network(both):
    found = parsed(both[1], "metrics/details/train.json")["calibration"]
    record = parsed(both[1], "models/model.json")
    assert found["temperature"] == record["temperature"]
    validation = parsed(both[1], "metrics/train.json")["validation"]
    assert found["loss_before"] == pytest.approx(validation["loss"], abs=2e-6)
    assert found["loss_after"] < found["loss_before"]
    # Validation is a part of test, whose probabilities evaluate wrote.
    for files, moment in zip(both, ("before", "after"), strict=True):
        rows = list(csv.DictReader(files[PREDICTIONS].decode().splitlines()))[15:]
        shares = np.array([[float(row[f"p_{name}"]) for name in "abc"] for row in rows])
        labels = np.array(["abc".index(row["actual"]) for row in rows])
        losses = -np.log(shares[np.arange(45), labels])
        assert found[f"loss_{moment}"] == pytest.approx(losses.mean(), abs=1e-5)
        error = expected_calibration_error(shares, labels, bins=15)
        assert found[f"calibration_error_{moment}"] == pytest.approx(error, abs=1e-5)


def test_calibrated_network_cannot_be_calibrated_further(both, noisy, monkeypatch):
    record = parsed(both[1], "models/model.json")
    architecture = TypeAdapter(Architecture).validate_python(record["architecture"])
    monkeypatch.chdir(noisy)
    split = DeviceBatches(load_split("validation", load_manifest()))
    logits = logits_of(load(both[1]["models/model.safetensors"]), architecture, split)
    assert fit_temperature(logits, split.labels).value == pytest.approx(1, abs=1e-5)


def test_evaluate_finds_the_same_answers(both):
    answers, scores = [], []
    for files in both:
        rows = csv.DictReader(files[PREDICTIONS].decode().splitlines())
        answers.append([row["predicted"] for row in rows])
        scores.append(parsed(files, "metrics/test.json")["test"])
    assert answers[0] == answers[1]
    for name in ("accuracy", "precision", "recall", "f1"):
        assert scores[0][name] == scores[1][name]
    assert scores[1]["loss"] < scores[0]["loss"]


def test_network_that_never_errs_is_warned_of(prepared, monkeypatch, capsys):
    files = train(prepared, monkeypatch, calibrate="true", lr=0.01, epochs=10)
    assert parsed(files, "models/model.json")["temperature"] == 1.0
    error = capsys.readouterr().err
    assert error.startswith("train: warning: calibrate: expected validation images ")
    assert error.count("\n") == 1


def test_model_without_an_output_layer_is_code_two_before_training(
    prepared, write_params, monkeypatch, capsys
):
    monkeypatch.setitem(MODELS, "mlp", Bounded)
    write_params(**RUN, calibrate="true")
    assert exit_code("train", monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.startswith("train: params.yaml: calibrate: expected logits")
    assert error.count("\n") == 1
    assert not paths.MODEL.exists()


def killed(*_):
    """Ends training as a kill would, after the last epoch."""
    raise KeyboardInterrupt


def test_run_killed_while_it_is_calibrated_ends_with_the_same_bytes(
    both, noisy, monkeypatch
):
    monkeypatch.setattr("src.resume.resume.EPOCH_PAUSE", -1.0)
    monkeypatch.setattr("src.resume.resume.COST_FACTOR", 0)
    with monkeypatch.context() as patch:
        patch.setattr("src.training.calibration.fit_temperature", killed)
        with pytest.raises(KeyboardInterrupt):
            train(noisy, patch, calibrate="true")
    assert not (noisy / paths.MODEL).exists()
    assert list((noisy / ".resume").glob("*/state-*.snapshot"))
    found = train(noisy, monkeypatch, calibrate="true")
    assert found == {name: both[1][name] for name in STAGE_OUTPUTS["train"]}


@pytest.mark.slow
def test_same_run_with_an_average_and_smoothing_twice_gives_the_same_bytes(
    noisy, monkeypatch
):
    changes = {"calibrate": "true", "ema_decay": 0.9, "label_smoothing": 0.1}
    first, second = (train(noisy, monkeypatch, **changes) for _ in range(2))
    assert first == second


@pytest.mark.slow
def test_training_starts_from_a_calibrated_network(both, noisy, monkeypatch, capsys):
    (noisy / "data/weights").mkdir(parents=True)
    given = both[1]["models/model.safetensors"]
    (noisy / "data/weights/first.safetensors").write_bytes(given)
    still = {"lr": 1e-12, "epochs": 1, "weight_decay": 0.0}
    start = {"init_from": "first.safetensors", "calibrate": "true"}
    files = train(noisy, monkeypatch, **start, **still)
    assert "4 of 4 weights taken" in capsys.readouterr().out
    record = parsed(files, "models/model.json")
    assert record["temperature"] == pytest.approx(1, abs=1e-4)
    for name, expected in load(given).items():
        found = load(files["models/model.safetensors"])[name]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
