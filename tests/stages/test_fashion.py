"""Fashion-MNIST from its archives to every export format, with a trained network."""

import json

import numpy as np
import pytest

from benchmarks.project import with_values
from src.data.prepared import load_manifest
from src.evaluation.predict import predict
from src.models.checkpoint import load_trained
from tests.helpers.archives import MANUAL, has_archives, prepare_offline
from tests.helpers.browser import classify_in_page
from tests.helpers.formats import FORMATS
from tests.helpers.imports import ROOT
from tests.helpers.running import run_stage

pytestmark = [pytest.mark.slow, has_archives]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with `cnn` trained for one epoch and exported to all formats."""
    folder = tmp_path_factory.mktemp("fashion")
    text = (ROOT / "params.yaml").read_text()
    changes = {"dataset": "fashion_mnist", "model": "cnn", "epochs": 1}
    (folder / "params.yaml").write_text(with_values(text, **changes))
    assert prepare_offline(folder, MANUAL).returncode == 0
    for stage in ("train", "evaluate", "export"):
        result = run_stage(stage, folder)
        assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def results(project):
    return json.loads((project / "metrics/details/export.json").read_text())["export"]


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "tflite_int8"])
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
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.array_equal(np.argmax(found, 1), expected.argmax(1))
