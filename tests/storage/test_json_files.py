"""JSON and npz files: atomic, reproducible, and refused if malformed."""

import json

import numpy as np
import pytest

from src.errors import DataError, StorageError
from src.storage.atomic import replace_file
from src.storage.json_files import read_json
from src.storage.npz import read_arrays
from tests.helpers.files import write_arrays, write_metrics

REPAIR = "Recreate it."


def test_failed_write_leaves_only_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    replace_file(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match=r"file: No space left .*\. Free some"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_metrics_are_rounded_sorted_and_finite(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(path, {"b": {"y": 0.12345678, "x": 3}, "a": 1 / 3})
    assert path.read_text() == (
        '{\n  "a": 0.333333,\n  "b": {\n    "x": 3,\n    "y": 0.123457\n  }\n}\n'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_metrics(path, {"a": float("nan")})
    assert json.loads(path.read_text())["a"] == 0.333333


def test_arrays_are_read_back_unchanged_from_reproducible_bytes(tmp_path):
    arrays = {
        "kernel": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "images": np.arange(8, dtype=np.uint8),
    }
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    sha256 = write_arrays(first, arrays)
    assert write_arrays(second, arrays) == sha256
    assert first.read_bytes() == second.read_bytes()
    found = read_arrays(first, REPAIR, sha256)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("size", [0, 1, 30, 200, -1])
def test_truncated_or_foreign_file_is_refused_even_without_a_digest(tmp_path, size):
    path = tmp_path / "arrays.npz"
    write_arrays(path, {"kernel": np.arange(20, dtype=np.float32)})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match="expected an npz of plain arrays"):
        read_arrays(path, REPAIR)


def test_pickle_is_refused_and_not_run(tmp_path):
    path = tmp_path / "arrays.npz"
    np.save(path.with_suffix(".npy"), np.array([{"a": 1}], object), allow_pickle=True)
    path.with_suffix(".npy").rename(path)
    with pytest.raises(DataError, match="expected an npz of plain arrays"):
        read_arrays(path, REPAIR)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"3"])
def test_file_without_a_json_object_is_refused(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"record\.json: expected .*Recreate it\."):
        read_json(path, REPAIR)


def test_missing_file_gives_the_repair(tmp_path):
    with pytest.raises(
        DataError, match=r"none: expected a file, found none. Recreate it"
    ):
        read_json(tmp_path / "none", REPAIR)
