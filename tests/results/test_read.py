"""Reading a finished run: files of different runs are refused."""

import json

import pytest

from src import paths
from src.errors import DataError
from src.results.read import load_results
from src.storage.json_files import SEAL
from tests.helpers.files import write_record
from tests.helpers.finished_run import FinishedRun


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A finished run in the working directory."""
    monkeypatch.chdir(tmp_path)
    return FinishedRun(["cat", "dog", "emu"])


def test_results_are_those_of_the_run(finished):
    results = load_results()
    assert results.predictions.actual.tolist() == finished.labels.tolist()
    assert results.predictions.predicted.tolist() == finished.predicted.tolist()
    assert results.predictions.confidence.tolist() == finished.confidence.tolist()
    assert results.plots == finished.plots
    expected = finished.scores["accuracy"]
    assert results.metrics.scores.accuracy == pytest.approx(expected, abs=1e-6)
    assert results.metrics.details.correct == finished.scores["correct"]


def test_predictions_have_the_files_of_the_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [f"a, b/{row}\n.jpg" for row in range(40)]
    FinishedRun(["cat", "dog", "emu"], files=files)
    assert load_results().predictions.file.tolist() == files


def test_predictions_without_files_are_refused_with_how_to_write_them(finished):
    lines = paths.PREDICTIONS.read_text().splitlines()
    text = "\n".join(line.rpartition(",")[0] for line in lines)
    paths.PREDICTIONS.write_text(text)
    with pytest.raises(DataError, match=r"'file'.* Recreate it: dvc repro evaluate"):
        load_results()


def refused(path):
    """Expects a DataError that names the file."""
    return pytest.raises(DataError, match=f"^{path}: ")


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (paths.DETAILS / "test.json", lambda c: c["test"].update(correct=34)),
        (paths.DETAILS / "test.json", lambda c: c["test"]["classes"].pop("cat")),
        (paths.METRICS / "test.json", lambda c: c["test"].update(accuracy=1e999)),
        (
            paths.DETAILS / "test.json",
            lambda c: c["test"]["classes"]["cat"].update(examples=10**400),
        ),
        (paths.METRICS / "train.json", lambda c: c.update(best_epoch=3)),
        (
            paths.EXPORT / "manifest.json",
            lambda c: c["model"].update(sha256="e" * 64),
        ),
        (paths.MODEL, lambda c: c["data_sha256"].update(train="e" * 64)),
    ],
    ids=["answers", "classes", "infinity", "size", "epoch", "weights", "data"],
)
def test_file_of_another_run_is_refused(finished, path, change):
    content = json.loads(path.read_text())
    change(content)
    if content.pop(SEAL, None):
        write_record(path, content)
    else:
        path.write_text(json.dumps(content))
    with refused(path):
        load_results()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (",dog,", ",cat,"),
        (",dog,", ",elk,"),
        ("0,cat,dog,", "0,cat,dog,1."),
        ("0,cat,dog,0", "0,cat,dog,-1"),
        ("0,cat,dog,0", "0,cat,dog,nan"),
        (",\n", "\n"),
    ],
    ids=["classes", "name", "above 1", "below 0", "nan", "no file"],
)
def test_predictions_of_another_test_split_are_refused(finished, old, new):
    paths.PREDICTIONS.write_text(paths.PREDICTIONS.read_text().replace(old, new))
    with refused(paths.PREDICTIONS):
        load_results()


@pytest.mark.parametrize("end", [0, 100, -1])
def test_incomplete_png_is_refused(finished, end):
    path = paths.PLOTS / "confusion.png"
    path.write_bytes(path.read_bytes()[:end])
    with refused(path):
        load_results()
