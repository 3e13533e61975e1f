"""predictions.csv, and the files that evaluate writes into it."""

import csv
import io

import numpy as np
import pytest

from src import paths
from src.evaluation.predict import predictions_csv, probabilities_npz
from tests.helpers.files import write_csv
from tests.helpers.prepared import write_prepared
from tests.helpers.running import exit_code

PROBABILITIES = np.array([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]])


def write_files_csv(train, test):
    """Writes files.csv: the files of two splits, and one that was not used."""
    rows = [("train", *row) for row in enumerate(train)]
    rows += [("test", *row) for row in enumerate(test)]
    write_csv(paths.FILES, ("split", "row", "file"), [*rows, ("", "", "cut.png")])


def rows_of(content):
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def test_row_has_the_file_of_the_image_and_all_probabilities():
    files = ["test/cat/1.jpg", 'a, "b"\n.png', "\u732b.webp"]
    content = predictions_csv(PROBABILITIES, np.array([0, 1, 1]), ["cat", "dog"], files)
    assert rows_of(content) == [
        ["index", "actual", "predicted", "confidence", "file", "p_cat", "p_dog"],
        ["0", "cat", "cat", "0.75", files[0], "0.75", "0.25"],
        ["1", "dog", "cat", "0.5", files[1], "0.5", "0.5"],
        ["2", "dog", "dog", "0.875", files[2], "0.125", "0.875"],
    ]


def test_file_of_an_array_is_empty():
    content = predictions_csv(PROBABILITIES[:1], np.array([0]), ["cat", "dog"], [""])
    row = content.decode().splitlines()[1]
    assert row == "0,cat,cat,0.75,,0.75,0.25"


@pytest.mark.parametrize(("classes", "columns"), [(30, 35), (31, 5)])
def test_table_has_a_column_for_each_class_up_to_thirty(classes, columns):
    probabilities = np.full((2, classes), 1 / classes)
    names = [f"c{number}" for number in range(classes)]
    content = predictions_csv(probabilities, np.array([0, 1]), names, ["", ""])
    assert {len(row) for row in rows_of(content)} == {columns}


def test_file_of_probabilities_has_all_of_them_for_any_number_of_classes(tmp_path):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(500) / 50, 40).astype(np.float32)
    names = [f"class {number}" for number in range(500)]
    content = probabilities_npz(probabilities, names)
    (tmp_path / "found.npz").write_bytes(content)
    with np.load(tmp_path / "found.npz") as found:
        assert found["class_names"].tolist() == names
        assert found["probabilities"].dtype == np.float32
        np.testing.assert_allclose(found["probabilities"], probabilities, atol=6e-7)
    assert len(content) < probabilities.nbytes / 3
    assert content == probabilities_npz(probabilities, names)


@pytest.fixture
def trained(prepared, write_params, monkeypatch):
    """A prepared folder after a short training."""
    write_params(model="mlp", hidden=8, max_steps=1, epochs=1)
    assert exit_code("train", monkeypatch) == 0
    return prepared


def test_predictions_have_the_files_that_prepare_listed(trained, monkeypatch):
    files = [f"test/{row}.png" for row in range(37)]
    write_files_csv(["train/x.png"] * 100, files)
    assert exit_code("evaluate", monkeypatch) == 0
    rows = rows_of(paths.PREDICTIONS.read_bytes())
    assert [row[4] for row in rows[1:]] == files
    shares = np.array([row[5:] for row in rows[1:]], np.float64)
    with np.load(paths.PROBABILITIES) as found:
        np.testing.assert_array_equal(shares.astype("f4"), found["probabilities"])
    np.testing.assert_allclose(shares.sum(1), 1, atol=3e-6)


def test_classes_that_no_font_can_write_are_one_warning_of_evaluate(
    tmp_path, write_params, monkeypatch, capfd
):
    monkeypatch.setattr("src.reporting.fonts.findSystemFonts", list)
    monkeypatch.chdir(tmp_path)
    write_prepared(tmp_path, ["\u4f4e", "\u4e2d", "\u9ad8"])
    write_params(model="mlp", hidden=32, batch_size=8, epochs=3, dropout=0.0)
    assert exit_code("train", monkeypatch) == 0
    capfd.readouterr()
    assert exit_code("evaluate", monkeypatch) == 0
    out, err = capfd.readouterr()
    assert err == ""
    warning, result = out.splitlines()
    assert warning.startswith("evaluate: warning: no installed font has 3 letters")
    assert result.startswith("evaluate: 37 images: accuracy ")


@pytest.mark.parametrize(
    ("count", "found"), [(36, "found 36"), (0, "found 0"), (None, "found none")]
)
def test_list_of_files_of_other_data_is_refused(
    trained, monkeypatch, capsys, count, found
):
    paths.FILES.unlink()
    if count is not None:
        write_files_csv(["train/x.png"] * 100, ["a.png"] * count)
    assert exit_code("evaluate", monkeypatch) == 3
    error = capsys.readouterr().err
    assert error.startswith("evaluate: data/prepared/files.csv: expected ")
    assert found in error
    assert error.endswith("Prepare it again: dvc repro prepare\n")
    assert not paths.PREDICTIONS.exists()


def test_training_warns_of_a_model_that_predicts_one_class(
    prepared, write_params, monkeypatch, capsys
):
    # So high a rate that no hidden unit is active afterwards.
    write_params(model="mlp", hidden=8, optimizer="sgd", lr=100, epochs=1)
    assert exit_code("train", monkeypatch) == 0
    error = capsys.readouterr().err
    assert error.startswith("train: warning: the model predicts ")
    assert error.endswith(" for all 30 validation images. Lower lr, or train longer.\n")
    assert error.count("\n") == 1
