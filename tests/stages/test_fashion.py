"""Fashion-MNIST from its archives to every export format, with a trained network."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.unlike import other_pictures
from src.data.prepared import load_manifest, load_split
from src.evaluation.predict import predict
from src.export.load import load_exported
from src.export.unlike import unlike_scores
from src.models.checkpoint import load_trained
from tests.helpers.archives import MANUAL, has_archives, idx, prepare_offline
from tests.helpers.browser import classify_in_page
from tests.helpers.prepared import write_params_file
from tests.helpers.running import OPTIMIZED, run_python, run_stage

pytestmark = [pytest.mark.slow, has_archives]


# The formats for devices; all six are compared on the digits by `make verify`.
DEVICE_FORMATS = ["tflite", "onnx", "numpy"]
PROJECT = {
    "dataset": "fashion_mnist",
    "model": "cnn",
    "epochs": 1,
    "export_formats": [*DEVICE_FORMATS, "tflite_int8"],
}
MEASURED = """
import atexit
import re
import runpy
from pathlib import Path

def write_peak():
    status = Path("/proc/self/status").read_text()
    Path("peak").write_text(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1])

atexit.register(write_peak)
runpy.run_module("stages.train", run_name="__main__")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with `cnn`, trained for one epoch and exported for devices.

    Prepare, the longest step, runs once for all tests of this file.
    """
    folder = tmp_path_factory.mktemp("fashion")
    write_params_file(folder, **PROJECT)
    result = prepare_offline(folder, MANUAL)
    assert result.returncode == 0, result.stderr
    result = run_python(["-c", MEASURED], folder, XLA_FLAGS=OPTIMIZED)
    assert result.returncode == 0, result.stderr
    for stage in ("evaluate", "export"):
        result = run_stage(stage, folder, XLA_FLAGS=OPTIMIZED)
        assert result.returncode == 0, result.stderr
    return folder


def test_images_and_labels_are_those_of_the_archives(project):
    with np.load(project / "data/prepared/test.npz") as test:
        images, labels = test["images"], test["labels"]
    expected = idx("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
    order = np.lexsort(images.reshape(len(images), -1).T)
    expected_order = np.lexsort(expected.reshape(len(expected), -1).T)
    np.testing.assert_array_equal(images[order], expected[expected_order])
    truth = idx("t10k-labels-idx1-ubyte.gz", 8)
    assert np.bincount(labels).tolist() == np.bincount(truth).tolist() == [1000] * 10
    assert "Ankle boot" in (project / "data/prepared/manifest.json").read_text()


def test_one_epoch_of_a_cnn_classifies_85_percent_of_the_test_images(project):
    scores = json.loads((project / "metrics/test.json").read_text())["test"]
    assert scores["accuracy"] >= 0.85


def test_training_on_60000_images_needs_less_than_1500_megabytes(project):
    assert int((project / "peak").read_text()) < 1_500_000  # kilobytes


def test_validation_in_short_precision_is_within_half_a_point_of_float32(
    project, tmp_path
):
    (tmp_path / "data").symlink_to(project / "data")
    changes = {"dataset": "fashion_mnist", "model": "mlp", "epochs": 1, "lr": 0.001}
    accuracy = {}
    for name in ("float32", "bfloat16", "float16"):
        write_params_file(tmp_path, precision=name, **changes)
        result = run_stage("train", tmp_path, XLA_FLAGS=OPTIMIZED)
        assert result.returncode == 0, result.stderr
        scores = json.loads((tmp_path / "metrics/train.json").read_text())
        accuracy[name] = scores["validation"]["accuracy"]
    assert accuracy["bfloat16"] == pytest.approx(accuracy["float32"], abs=0.005)
    assert accuracy["float16"] == pytest.approx(accuracy["float32"], abs=0.005)


@pytest.fixture
def results(project):
    return json.loads((project / "metrics/details/export.json").read_text())["export"]


@pytest.mark.parametrize("name", DEVICE_FORMATS)
def test_float_format_matches_the_network_on_all_test_images(project, results, name):
    scores = json.loads((project / "metrics/test.json").read_text())["test"]
    details = json.loads((project / "metrics/details/test.json").read_text())["test"]
    assert details["examples"] == 10_000
    assert results[name]["largest_difference"] <= 1e-5
    assert results[name]["changed"] == 0
    assert results[name]["accuracy"] == scores["accuracy"]


def test_int8_loses_at_most_half_a_point_and_is_a_quarter_of_the_size(project, results):
    lost = results["tflite"]["accuracy"] - results["tflite_int8"]["accuracy"]
    assert lost <= 0.005
    assert results["tflite_int8"]["bytes"] < 0.26 * results["tflite"]["bytes"]


def test_demo_page_matches_the_network_on_100_test_images(
    project, monkeypatch, tmp_path
):
    monkeypatch.chdir(project)
    trained = load_trained(load_manifest())
    with np.load("data/prepared/test.npz") as test:
        images = test["images"][:100]
    expected = np.exp(predict(trained.model, images))
    found = classify_in_page(project / "models/export/demo.html", images, tmp_path)
    np.testing.assert_allclose(found, expected, atol=1e-3)  # 16-bit weights
    assert np.array_equal(np.argmax(found, 1), expected.argmax(1))


def test_digits_and_noise_are_unlike_the_training_pictures(project, monkeypatch):
    monkeypatch.chdir(project)
    test = load_split("test", load_manifest()).images
    exported = load_exported(None)
    known = unlike_scores(exported.centres, test)
    assert (known > exported.manifest.unlike.threshold).mean() < 0.02
    for name, images in other_pictures(test).items():
        if name.startswith(("digits", "noise")):
            scores = np.concatenate([known, unlike_scores(exported.centres, images)])
            other = np.arange(len(scores)) >= len(known)
            assert roc_auc_score(other, scores) >= 0.95, name
