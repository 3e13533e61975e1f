"""`dataset` selects a source, and the stage reads it."""

import gzip
import io
import struct

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from src.data.prepared import load_manifest, load_split
from tests.helpers.examples import patterned
from tests.helpers.running import exit_code

TRAIN, TEST = patterned(60, seed=0), patterned(20, seed=1)
SPLITS = {"train": TRAIN, "test": TEST}


def write_keras(folder):
    arrays = {f"x_{name}": split.images[..., 0] for name, split in SPLITS.items()}
    arrays |= {f"y_{name}": split.labels for name, split in SPLITS.items()}
    np.savez(folder / "mnist.npz", **arrays)


def write_idx(folder):
    for name, split in (("train", TRAIN), ("t10k", TEST)):
        count = len(split.labels)
        images = struct.pack(">4I", 0x803, count, 8, 8) + split.images.tobytes()
        labels = struct.pack(">2I", 0x801, count) + np.uint8(split.labels).tobytes()
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))


def write_csv(folder):
    for name, split in SPLITS.items():
        rows = np.column_stack([split.labels, split.images.reshape(-1, 64)])
        header = ",".join(["label", *(f"pixel{number}" for number in range(64))])
        np.savetxt(folder / f"{name}.csv", rows, "%d", ",", header=header, comments="")


def write_parquet(folder):
    for name, split in SPLITS.items():
        contents = []
        for pixels in split.images:
            buffer = io.BytesIO()
            Image.fromarray(pixels[..., 0]).save(buffer, "PNG")
            contents.append(buffer.getvalue())
        table = pyarrow.table({"image": contents, "label": split.labels})
        parquet.write_table(table, folder / f"{name}-00000-of-00001.parquet")


@pytest.mark.parametrize(
    ("dataset", "write"),
    [
        ("npz", write_keras),
        ("idx", write_idx),
        ("csv", write_csv),
        ("parquet", write_parquet),
    ],
)
def test_source_goes_through_the_stage(
    tmp_path, write_params, monkeypatch, dataset, write
):
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine")
    write_params(dataset=dataset, data_path="mine")
    monkeypatch.chdir(tmp_path)
    assert exit_code("prepare", monkeypatch) == 0
    manifest = load_manifest()
    assert manifest.dataset == dataset
    assert manifest.class_names == ["0", "1", "2"]
    test = load_split("test", manifest)
    np.testing.assert_array_equal(test.images, TEST.images)
    np.testing.assert_array_equal(test.labels, TEST.labels)


@pytest.mark.parametrize(
    ("dataset", "write", "file"),
    [
        ("npz", write_keras, "mnist.npz"),
        ("csv", write_csv, "train.csv"),
        ("parquet", write_parquet, "train-00000-of-00001.parquet"),
    ],
)
def test_data_path_may_be_a_single_file(
    tmp_path, write_params, monkeypatch, capsys, dataset, write, file
):
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine")
    write_params(dataset=dataset, data_path=f"mine/{file}")
    monkeypatch.chdir(tmp_path)
    assert exit_code("check", monkeypatch) == 0, capsys.readouterr().err
    assert exit_code("prepare", monkeypatch) == 0
    assert load_manifest().class_names == ["0", "1", "2"]


@pytest.mark.parametrize("dataset", ["folder", "idx", "digits"])
def test_single_file_for_other_sources_is_refused_in_one_line(
    tmp_path, write_params, monkeypatch, capsys, dataset
):
    (tmp_path / "mine.zip").write_bytes(b"x")
    write_params(dataset=dataset, data_path="mine.zip")
    monkeypatch.chdir(tmp_path)
    assert exit_code("prepare", monkeypatch) == 3
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("prepare: mine.zip")


def test_data_path_that_is_missing_is_refused(
    tmp_path, write_params, monkeypatch, capsys
):
    write_params(dataset="npz", data_path="mine.npz")
    monkeypatch.chdir(tmp_path)
    assert exit_code("check", monkeypatch) == 2
    error = capsys.readouterr().err
    assert "expected a folder or a file, found none at 'mine.npz'" in error
