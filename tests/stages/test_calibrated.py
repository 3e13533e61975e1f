"""Calibrated networks through whole runs: devices, processes, all export formats."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers.chaos import outputs
from tests.helpers.groups import trained
from tests.helpers.prepared import write_noisy, write_params_file
from tests.helpers.running import run_stage

pytestmark = pytest.mark.slow  # runs every stage in processes

RUN = {
    "model": "cnn",
    "hidden": 16,
    "batch_size": 10,
    "epochs": 1,
    "lr": 0.003,
    "calibrate": "true",
}


def record(folder):
    return json.loads((folder / "models/model.json").read_text())


def run(stage, folder):
    result = run_stage(stage, folder)
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture
def noisy(tmp_path):
    write_noisy(tmp_path)
    return tmp_path


@pytest.mark.parametrize("model", ["cnn", "resnet"])
def test_two_devices_find_the_temperature_of_one(noisy, write_params, model):
    found = []
    # A small lr: AdamW amplifies the rounding in which the two runs differ.
    settings = {**RUN, "model": model, "lr": 0.001}
    for devices in (1, 2):
        write_params(**settings, cpu_devices=devices)
        run("train", noisy)
        assert record(noisy)["devices"] == devices
        found.append(record(noisy)["temperature"])
    assert found[1] == pytest.approx(found[0], rel=1e-3)
    assert found[0] != 1


def test_two_processes_find_the_temperature_of_one_and_again_the_same_bytes(
    noisy, write_params
):
    write_params(**RUN)
    run("train", noisy)
    one = record(noisy)["temperature"]
    assert one != 1
    trained(noisy)
    first = outputs(noisy)
    assert record(noisy)["temperature"] == pytest.approx(one, rel=1e-3)
    trained(noisy)
    assert outputs(noisy) == first


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A calibrated network of two classes in all formats, with a decision."""
    folder = tmp_path_factory.mktemp("exported")
    write_noisy(folder, ["cat", "dog"])
    (folder / "requirements.lock").write_text("none")
    write_params_file(folder, **RUN, threshold="recall:0.9", reject_below=0.6)
    for stage in ("train", "evaluate", "export", "report"):
        run(stage, folder)
    return folder


def test_all_formats_equal_the_calibrated_network(exported):
    folder = exported
    measured = json.loads((folder / "metrics/details/export.json").read_text())
    scores = json.loads((folder / "metrics/test.json").read_text())["test"]
    assert len(measured["export"]) == 6
    for name, each in measured["export"].items():
        if name != "tflite_int8":
            assert each["changed"] == 0
            assert each["largest_difference"] <= 1e-5
            assert each["accuracy"] == scores["accuracy"]
    manifest = json.loads((folder / "models/export/manifest.json").read_text())
    assert manifest["left_out"] == {}
    assert manifest["model"]["temperature"] == record(folder)["temperature"] != 1


def test_shipped_program_answers_as_evaluate_does(exported):
    command = ["run.py", "model.onnx", "../../data/prepared/test.npz"]
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=exported / "models/export",
        capture_output=True,
        text=True,
        check=True,
    )
    with (exported / "metrics/plots/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = [line.split("\t") for line in ended.stdout.splitlines()]
    assert [line[0] for line in found] == [row["predicted"] for row in rows]
    unsure = [line[2:] == ["unsure"] for line in found]
    assert unsure == [row["unsure"] == "true" for row in rows]
    confidence = [float(row["confidence"]) for row in rows]
    np.testing.assert_allclose(
        [float(line[1]) for line in found], confidence, atol=1e-4
    )


def test_report_and_card_say_how_answers_are_made(exported):
    page = (exported / "metrics/report.html").read_text()
    card = (exported / "models/export/MODEL_CARD.md").read_text()
    temperature = record(exported)["temperature"]
    assert f"divided the logits by {temperature:.3f}" in page
    assert f"The logits were divided by {temperature}" in card
    assert "The answer is dog from a probability of" in page
    assert "the network is unsure" in card
