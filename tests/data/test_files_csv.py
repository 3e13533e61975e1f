"""The table of where each example came from."""

import csv
import io

import pytest

from src import paths
from src.data.examples import Origin, PassedOver
from src.data.files_csv import files_csv, read_files, read_origins
from src.errors import DataError
from tests.helpers.files import write_file

ODD = 'a,"b"\nc/ü 😀.png'


def test_table_has_a_row_per_example_and_passed_over_file():
    origins = {
        "train": [Origin("a.png", "anna", "12ab", 3, 4), Origin(ODD)],
        "test": [Origin("c.png")],
    }
    content = files_csv(
        {"train": 2, "test": 1}, origins, [PassedOver("x.txt", "no picture: .txt")]
    )
    rows = list(csv.reader(io.StringIO(bytes(content).decode(), newline="")))
    assert rows == [
        ["split", "row", "file", "group", "digest", "width", "height", "reason"],
        ["train", "0", "a.png", "anna", "12ab", "3", "4", ""],
        ["train", "1", ODD, "", "", "", "", ""],
        ["test", "0", "c.png", "", "", "", "", ""],
        ["", "", "x.txt", "", "", "", "", "no picture: .txt"],
    ]


def test_arrays_have_rows_without_files(prepared):
    assert read_files("train") == [""] * 100
    assert read_files("test") == [""] * 37


def test_files_of_a_split_are_read_in_the_order_of_its_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    origins = {"train": [Origin("a"), Origin(ODD)], "test": [Origin("c")]}
    write_file(paths.FILES, files_csv({"train": 2, "test": 1}, origins, []))
    assert read_files("train") == ["a", ODD]
    assert read_files("test") == ["c"]
    assert read_files("validation") == []


def test_origins_have_file_and_group(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    origins = {"train": [Origin("a", "anna", "12ab", 3, 4), Origin(ODD)]}
    write_file(paths.FILES, files_csv({"train": 2}, origins, []))
    assert read_origins("train") == [Origin("a", "anna"), Origin(ODD)]


@pytest.mark.parametrize("content", [None, b"split,row\ntrain,0\n", b"\xff\n\xff\n"])
def test_missing_or_damaged_table_is_refused(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        write_file(paths.FILES, content)
    with pytest.raises(DataError, match=r"files\.csv: .* dvc repro prepare"):
        read_files("train")
