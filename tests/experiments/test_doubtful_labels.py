"""Doubtful labels: cleanlab's ranking, the table, and the way back into prepare."""

import csv
import io
import sys
from pathlib import Path

import numpy as np
import pytest

from src import paths
from src.data.examples import Examples, Origin
from src.data.files_csv import read_files
from src.data.prepared import load_manifest, load_split
from src.experiments.cross_validation import TrainingExamples
from src.experiments.doubtful_labels import (
    describe_doubtful,
    doubtful_csv,
    judge_labels,
)
from tests.helpers.picture_folders import write_pictures, write_table
from tests.helpers.running import exit_code

LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)
PROBABILITIES = np.array(
    [
        [0.75, 0.125, 0.125],
        [0.5, 0.25, 0.25],  # in doubt
        [0.0625, 0.9375, 0.0],  # in doubt, and worst: quality 0
        [0.125, 0.375, 0.5],  # in doubt
        [0.125, 0.75, 0.125],
        [0.25, 0.25, 0.5],
    ],
    np.float32,
)
NAMES = ["ant", "bee", "cat"]


def test_quality_is_the_probability_of_the_given_label():
    judged = judge_labels(LABELS, PROBABILITIES)
    by_hand = [0.75, 0.25, 0.0, 0.125, 0.75, 0.5]
    assert judged.quality.tolist() == by_hand
    assert judged.likely.tolist() == [0, 0, 1, 2, 1, 2]
    assert judged.doubtful.tolist() == [2, 3, 1]


def test_equal_qualities_keep_the_order_of_the_examples():
    labels, row = np.array([0, 0, 1, 0], np.int32), [0.25, 0.75]
    probabilities = np.array([row, row, row, row], np.float32)
    assert judge_labels(labels, probabilities).doubtful.tolist() == [0, 1, 3]


def test_flipped_labels_are_found_and_counted():
    rng = np.random.default_rng(0)
    right = rng.integers(0, 4, 400)
    probabilities = np.full((400, 4), 0.02, np.float32)
    probabilities[np.arange(400), right] = 0.94
    flipped = rng.permutation(400)[:20]
    labels = right.astype(np.int32)
    labels[flipped] = (labels[flipped] + 1) % 4
    judged = judge_labels(labels, probabilities)
    assert judged.doubtful.tolist() == sorted(flipped.tolist())
    assert judged.estimate == 20


def described(files):
    judged = judge_labels(LABELS, PROBABILITIES)
    examples = Examples(np.zeros((6, 2, 2, 1), np.uint8), LABELS)
    origins = [Origin(file) for file in files]
    train = TrainingExamples(examples, np.arange(6) * 10, origins)
    return describe_doubtful(judged, PROBABILITIES, train, NAMES)


def read(table):
    return list(csv.reader(io.StringIO(table.decode(), newline="")))


def test_table_of_files_proposes_the_likely_label():
    files = [f'{number},"ü"\n.png' for number in range(6)]
    assert read(doubtful_csv(described(files), from_files=True)) == [
        ["file", "label", "given_label", "probability", "quality"],
        [files[2], "bee", "cat", "0.9375", "0.0"],
        [files[3], "cat", "ant", "0.5", "0.125"],
        [files[1], "ant", "bee", "0.5", "0.25"],
    ]


def test_table_of_arrays_names_split_and_row():
    table = read(doubtful_csv(described([""] * 6), from_files=False))
    assert table[0][:3] == ["split", "row", "file"]
    assert table[1] == ["train", "20", "", "bee", "cat", "0.9375", "0.0"]
    assert [row[1] for row in table[1:]] == ["20", "30", "10"]


def prepared_splits():
    """Images, labels by name and files of each split."""
    manifest = load_manifest()
    return {
        name: (
            load_split(name, manifest).images,
            [manifest.class_names[x] for x in load_split(name, manifest).labels],
            read_files(name),
        )
        for name in ("train", "validation", "test")
    }


@pytest.fixture
def run(tmp_path, write_params, monkeypatch):
    """Runs a stage on a folder of pictures; returns its exit code."""
    monkeypatch.chdir(tmp_path)
    names = [f"{kind}/{number:02}.png" for kind in NAMES for number in range(20)]
    write_pictures(tmp_path / "my-images", *names)
    changes = {"dataset": "folder", "data_path": "my-images", "model": "mlp"}
    write_params(**changes, hidden=8, epochs=1, batch_size=8)

    def ran(stage, *arguments):
        monkeypatch.setattr(sys, "argv", [stage, *arguments])
        return exit_code(stage, monkeypatch)

    return ran


def test_table_taken_back_changes_exactly_its_labels(run):
    assert run("prepare") == 0
    before = prepared_splits()
    assert run("folds", "--folds", "2") == 0
    header, *rows = (paths.METRICS / "doubtful_labels.csv").read_text().splitlines()
    assert len(rows) > 6  # the pictures are noise
    kept = rows[::2]  # a person deletes the others
    write_table(Path("my-images/labels.csv"), header, *kept)
    assert run("prepare") == 0
    after = prepared_splits()
    corrected = {file: label for file, label, *_ in csv.reader(kept)}
    assert corrected.keys() <= set(before["train"][2])
    for name, (images, labels, files) in before.items():
        found_images, found_labels, found_files = after[name]
        np.testing.assert_array_equal(found_images, images)
        assert found_files == files
        expected = [
            corrected.get(file, label)
            for file, label in zip(files, labels, strict=True)
        ]
        assert found_labels == expected
        assert (expected != labels) == (name == "train")


@pytest.mark.slow
def test_copies_of_a_picture_are_in_one_fold(run, tmp_path):
    original = tmp_path / "my-images/ant/00.png"
    copies = [original] + [tmp_path / f"my-images/cat/copy{n}.png" for n in range(8)]
    for copy in copies[1:]:
        copy.write_bytes(original.read_bytes())
    assert run("prepare") == 0
    assert run("folds", "--folds", "3") == 0
    with np.load(paths.METRICS / "folds.npz") as found:
        folds, files = found["folds"], found["files"].tolist()
    names = {path.relative_to(tmp_path / "my-images").as_posix() for path in copies}
    together = [
        fold for fold, file in zip(folds.tolist(), files, strict=True) if file in names
    ]
    assert len(together) > 2
    assert len(set(together)) == 1
