"""`reject_below` and `threshold` in evaluate: what they change, and nothing else."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from src import paths
from src.data.examples import Examples, Source
from src.data.prepared import load_manifest, load_split, save_prepared
from src.evaluation.predict import predict
from src.evaluation.threshold import choose_threshold
from src.models.checkpoint import load_trained
from tests.helpers.examples import patterned
from tests.helpers.files import committed
from tests.helpers.prepared import write_prepared
from tests.helpers.running import exit_code
from tests.helpers.stage_outputs import STAGE_OUTPUTS

# So short that answers are from sure to unsure, and many are wrong.
RUN = {"model": "mlp", "hidden": 4, "epochs": 1, "lr": 0.003, "dropout": 0.0}


@pytest.fixture
def trained(tmp_path, monkeypatch, write_params):
    """Trains on images of two classes; evaluates with these parameters."""
    monkeypatch.chdir(tmp_path)
    write_prepared(tmp_path, ["cat", "dog"])
    write_params(**RUN)
    assert exit_code("train", monkeypatch) == 0

    def evaluate(**changes):
        write_params(**RUN, **changes)
        assert exit_code("evaluate", monkeypatch) == 0
        with paths.PREDICTIONS.open() as file:
            return list(csv.DictReader(file)), details()

    return evaluate


def details():
    return json.loads((paths.DETAILS / "test.json").read_text())["test"]


def results():
    return {name: Path(name).read_bytes() for name in STAGE_OUTPUTS["evaluate"]}


def test_unsure_is_a_column_and_nothing_else_changes(trained):
    plain, _ = trained()
    before = results()
    assert "unsure" not in plain[0]

    rows, found = trained(reject_below=0.55)
    unsure = [row.pop("unsure") == "true" for row in rows]
    assert rows == plain
    assert unsure == [float(row["confidence"]) < 0.55 for row in rows]
    assert 0 < sum(unsure) < len(rows)
    assert found["reject_below"] == 0.55
    assert found["coverage"] == pytest.approx(1 - np.mean(unsure), abs=1e-6)
    right = [row["actual"] == row["predicted"] for row in rows]
    answered = np.mean(np.array(right)[~np.array(unsure)])
    assert found["answered_accuracy"] == pytest.approx(answered, abs=1e-6)

    changed = {name for name, content in results().items() if content != before[name]}
    assert changed == {
        "metrics/plots/predictions.csv",
        "metrics/details/test.json",
        "metrics/plots/risk_coverage.png",
    }


def test_network_that_is_unsure_of_all_images_is_warned_of(trained, capsys):
    capsys.readouterr()
    rows, found = trained(reject_below=0.999999)
    assert {row["unsure"] for row in rows} == {"true"}
    assert found["coverage"] == 0
    assert "answered_accuracy" not in found
    error = capsys.readouterr().err
    assert error == (
        "evaluate: warning: the network is unsure of all 37 test images. Lower "
        "reject_below (0.999999).\n"
    )


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_second_class_is_predicted_from_the_threshold_on(trained, threshold):
    rows, found = trained(threshold=threshold)
    for row in rows:
        predicted = "dog" if float(row["p_dog"]) >= threshold else "cat"
        assert row["predicted"] == predicted
        assert row["confidence"] == row[f"p_{predicted}"]
    right = np.mean([row["actual"] == row["predicted"] for row in rows])
    scores = json.loads((paths.METRICS / "test.json").read_text())["test"]
    assert scores["accuracy"] == pytest.approx(right, abs=1e-6)
    assert found["threshold"] == threshold


def test_threshold_of_one_half_changes_no_byte(trained):
    trained()
    before = results()
    trained(threshold=0.5)
    assert results() == before


@pytest.mark.parametrize("rule", ["f1", "recall:0.95"])
def test_rule_chooses_the_threshold_on_validation(trained, rule):
    _, found = trained(threshold=rule)
    manifest = load_manifest()
    images, labels = load_split("validation", manifest)
    scores = np.exp(predict(load_trained(manifest).model, images))[:, 1]
    expected = choose_threshold(rule, scores.astype(np.float64), labels == 1)
    assert found["threshold"] == expected


def test_same_rule_twice_gives_the_same_bytes(trained):
    trained(threshold="f1", reject_below=0.6)
    before = results()
    trained(threshold="f1", reject_below=0.6)
    assert results() == before


def refused(monkeypatch, capsys):
    """Runs evaluate, which must write nothing; returns its line."""
    capsys.readouterr()
    assert exit_code("evaluate", monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not paths.PREDICTIONS.exists()
    return error


def test_threshold_of_three_classes_is_refused(
    prepared, write_params, monkeypatch, capsys
):
    write_params(**RUN)
    assert exit_code("train", monkeypatch) == 0
    write_params(**RUN, threshold="recall:0.9")
    assert refused(monkeypatch, capsys) == (
        "evaluate: params.yaml: threshold: expected two classes for threshold: "
        "recall:0.9, found 3. Leave it empty.\n"
    )


def test_rule_without_validation_images_of_a_class_is_refused(
    tmp_path, monkeypatch, write_params, capsys
):
    monkeypatch.chdir(tmp_path)
    write_prepared(tmp_path, ["cat", "dog"])
    splits = {
        "train": patterned(100, 1, classes=2),
        "validation": Examples(patterned(9, 2).images, np.zeros(9, np.int32)),
        "test": patterned(37, 3, classes=2),
    }
    source = Source("one", "1", ["cat", "dog"], splits["train"], None, None)
    committed(save_prepared, source, splits)
    write_params(**RUN)
    assert exit_code("train", monkeypatch) == 0
    write_params(**RUN, threshold="f1")
    error = refused(monkeypatch, capsys)
    assert "expected validation images of both classes" in error
    assert "found none of dog" in error
