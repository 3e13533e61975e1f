"""Layouts of folders of pictures: which file is of which class, split and group."""

import os
import subprocess
import unicodedata

import numpy as np
import pytest

from src.errors import DataError
from src.sources.folder import load_folder
from src.sources.layout import find_layout
from tests.helpers.picture_folders import OPTIONS, write_pictures, write_table

TRAIN = ("train/cat/0.png", "train/cat/1.png", "train/dog/0.png", "train/dog/1.png")


def found(folder):
    """The file and class of each picture, by split; and the passed-over files."""
    layout = find_layout(folder)
    splits = {
        split: [(path.as_posix(), label) for path, label, _ in pictures]
        for split, pictures in layout.splits.items()
    }
    return splits, dict(layout.passed_over)


def refused(folder):
    with pytest.raises(DataError) as error:
        find_layout(folder)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_train_alone(tmp_path):
    splits, passed_over = found(write_pictures(tmp_path, *TRAIN))
    assert splits == {"train": [(name, name.split("/")[1]) for name in TRAIN]}
    assert passed_over == {}


@pytest.mark.parametrize("name", ["valid", "val", "validation", "Val", "VALIDATION"])
def test_validation_folder_is_the_validation_split(tmp_path, name):
    write_pictures(tmp_path, *TRAIN, f"{name}/dog/7.png", "Test/cat/8.png")
    splits, _ = found(tmp_path)
    assert splits["validation"] == [(f"{name}/dog/7.png", "dog")]
    assert splits["test"] == [("Test/cat/8.png", "cat")]
    source = load_folder(tmp_path, OPTIONS)
    assert source.validation.labels.tolist() == [1]
    assert source.test.labels.tolist() == [0]


def test_training_and_testing_are_names_of_splits(tmp_path):
    write_pictures(tmp_path, "training/0/a.png", "training/1/b.png", "testing/1/c.png")
    splits, _ = found(tmp_path)
    assert splits == {
        "train": [("training/0/a.png", "0"), ("training/1/b.png", "1")],
        "test": [("testing/1/c.png", "1")],
    }


def test_class_folders_without_train(tmp_path):
    write_pictures(tmp_path, "cat/0.png", "dog/0.png", "dog/1.png")
    splits, _ = found(tmp_path)
    assert splits == {
        "train": [("cat/0.png", "cat"), ("dog/0.png", "dog"), ("dog/1.png", "dog")]
    }


def test_folders_below_a_class_belong_to_it(tmp_path):
    write_pictures(tmp_path, *TRAIN, "train/cat/2024/05/a.png")
    splits, _ = found(tmp_path)
    assert ("train/cat/2024/05/a.png", "cat") in splits["train"]


@pytest.mark.parametrize(
    "names",
    [
        ("train/cat/2023/a.png", "train/dog/2024/b.png"),  # years
        ("train/n01/images/a.png", "train/n02/images/b.png"),  # Tiny ImageNet
    ],
)
def test_pictures_that_are_all_in_sorting_folders_are_read(tmp_path, names):
    splits, _ = found(write_pictures(tmp_path, *names))
    assert splits["train"] == [(name, name.split("/")[1]) for name in names]


def test_pictures_are_sorted_by_path(tmp_path):
    names = ["cat/b.png", "cat/a/z.png", "cat/a.png", "cat-2/x.png"]
    splits, _ = found(write_pictures(tmp_path, *names))
    assert [name for name, _ in splits["train"]] == [
        *("cat/a/z.png", "cat/a.png", "cat/b.png", "cat-2/x.png")
    ]


@pytest.mark.parametrize(
    "name",
    [
        "train/.ipynb_checkpoints/0-checkpoint.png",
        "train/@eaDir/0.png",
        "train/cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
        "__MACOSX/train/cat/._0.png",
        "train/cat/._0.png",
        "train/cat/.DS_Store",
        "train/cat/Thumbs.db",
        "train/desktop.ini",
    ],
)
def test_files_of_systems_and_tools_are_passed_over(tmp_path, name):
    path = write_pictures(tmp_path, *TRAIN) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    splits, passed_over = found(tmp_path)
    assert splits["train"] == [(name, name.split("/")[1]) for name in TRAIN]
    assert passed_over == {name: "hidden or of the system"}


def test_files_of_other_kinds_are_passed_over(tmp_path):
    write_pictures(tmp_path, *TRAIN, "other/a.png", "b.png")
    (tmp_path / "train/cat/notes.TXT").write_bytes(b"x")
    (tmp_path / "train/dog/README").write_bytes(b"x")
    splits, passed_over = found(tmp_path)
    assert len(splits["train"]) == len(TRAIN)
    assert passed_over == {
        "train/cat/notes.TXT": "no picture: .txt",
        "train/dog/README": "no picture: no suffix",
        "other/a.png": "outside of train",
        "b.png": "outside of train",
    }


def test_nothing_but_files_of_other_kinds_is_refused(tmp_path):
    (tmp_path / "train/cat").mkdir(parents=True)
    (tmp_path / "train/cat/a.pdf").write_bytes(b"x")
    assert "found 1 other files, such as train/cat/a.pdf" in refused(tmp_path)


def test_empty_class_folder_is_named_in_a_warning(tmp_path):
    write_pictures(tmp_path, *TRAIN)
    (tmp_path / "train/bird").mkdir()
    (warning,) = load_folder(tmp_path, OPTIONS).warnings
    assert f"{tmp_path}/train/bird" in warning


def test_class_names_are_compared_after_normalisation(tmp_path):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    write_pictures(tmp_path, f"train/{composed}/0.png", "train/tea/0.png")
    write_pictures(tmp_path, f"test/{apart}/1.png")
    source = load_folder(tmp_path, OPTIONS)
    assert source.class_names == [composed, "tea"]
    assert source.test.labels.tolist() == [0]


def test_unknown_class_of_the_test_split_is_refused(tmp_path):
    write_pictures(tmp_path, *TRAIN, "test/Cat/0.png")
    message = refused(tmp_path)
    assert "test/Cat/0.png: expected one of the classes in train (cat, dog)" in message
    assert "Did you mean 'cat'?" in message


@pytest.mark.parametrize("name", ["test/1.png", "test/2.jpg"])
def test_flat_test_folder_can_be_moved_away_and_classified(tmp_path, name):
    write_pictures(tmp_path, *TRAIN, name)
    message = refused(tmp_path)
    assert "move it away" in message
    assert "`python -m stages.predict test/`" in message
    (tmp_path / "test").rename(tmp_path.parent / f"{tmp_path.name}-test")
    splits, _ = found(tmp_path)
    assert list(splits) == ["train"]


def test_flat_train_folder_is_refused(tmp_path):
    write_pictures(tmp_path, "train/cat.0.png", "train/dog.0.png")
    message = refused(tmp_path)
    assert "found 2 in no class folder, such as cat.0.png" in message
    assert "labels.csv" in message


def test_flat_folder_is_refused(tmp_path):
    message = refused(write_pictures(tmp_path, "a.png", "b.png", "c.png"))
    assert "found 3 in no class folder" in message


def test_two_levels_of_classes_are_refused(tmp_path):
    names = ["train/pet/cat/0.png", "train/pet/dog/0.png", "train/farm/cow/0.png"]
    message = refused(write_pictures(tmp_path, *names))
    assert "expected one level of class folders, found two, such as farm/cow" in message
    assert "Supported: train/<class>/*.jpg" in message
    for name in names:  # the advice
        path = tmp_path / name
        (tmp_path / "train" / path.parent.name).mkdir()
        path.rename(tmp_path / "train" / path.parent.name / path.name)
        path.parent.rmdir()
    (tmp_path / "train/pet").rmdir()
    (tmp_path / "train/farm").rmdir()
    splits, _ = found(tmp_path)
    assert [label for _, label in splits["train"]] == ["cat", "cow", "dog"]


def test_data_set_in_a_folder_of_its_own_is_refused_with_its_path(tmp_path):
    write_pictures(tmp_path / "unpacked", *TRAIN)
    message = refused(tmp_path)
    advice = f"Set data_path: {tmp_path / 'unpacked'}."
    assert message.endswith(advice)
    assert found(tmp_path / "unpacked")[0]


def test_splits_below_classes_are_refused(tmp_path):
    message = refused(
        write_pictures(tmp_path, "cat/train/0.png", "cat/test/1.png", "dog/train/2.png")
    )
    assert "expected test/<class>, found <class>/test" in message or (
        "expected train/<class>, found <class>/train" in message
    )


def test_missing_train_is_refused_with_the_nearest_name(tmp_path):
    write_pictures(tmp_path, "trian/cat/0.png", "test/cat/0.png")
    message = refused(tmp_path)
    assert "expected a folder train next to test, found trian." in message
    assert "Did you mean 'trian'?" in message


def test_two_folders_of_one_split_are_refused(tmp_path):
    write_pictures(tmp_path, *TRAIN, "val/cat/0.png", "valid/cat/1.png")
    assert "one folder of validation pictures, found val and valid" in refused(tmp_path)


def test_single_class_is_refused_with_what_is_supported(tmp_path):
    message = refused(write_pictures(tmp_path, "images/0.png", "images/1.png"))
    assert "expected at least two classes, found only images" in message
    assert "labels.csv" in message


@pytest.mark.parametrize("link", ["train", "train/cat", "train/cat/2024", "test"])
def test_link_to_a_folder_is_refused_until_it_is_replaced(tmp_path, link):
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    write_pictures(data, *TRAIN, "train/cat/2024/a.png", "test/cat/0.png")
    (data / link).rename(elsewhere)
    (data / link).symlink_to(elsewhere)
    message = refused(data)
    assert f"{data / link}: expected a folder, found a link to {elsewhere}" in message
    (data / link).unlink()
    elsewhere.rename(data / link)
    assert len(found(data)[0]["train"]) == len(TRAIN) + 1


def test_link_to_nothing_is_refused(tmp_path):
    write_pictures(tmp_path, *TRAIN)
    (tmp_path / "test").symlink_to(tmp_path / "gone")
    assert "test: expected a folder, found a link to" in refused(tmp_path)


def test_data_path_may_be_a_link(tmp_path):
    write_pictures(tmp_path / "real", *TRAIN)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    direct, linked = (
        load_folder(tmp_path / name, OPTIONS).train for name in ("real", "link")
    )
    np.testing.assert_array_equal(direct.images, linked.images)


@pytest.mark.slow
def test_changes_behind_a_data_path_that_is_a_link_are_seen_by_dvc(tmp_path):
    """Which is why it is not refused, unlike links inside of it."""

    def run(*command):
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return result.stdout

    write_pictures(tmp_path / "real", *TRAIN)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dvc.yaml").write_text("stages: {one: {cmd: 'true', deps: [link]}}")
    for command in (["git", "init"], ["dvc", "init"], ["dvc", "repro"]):
        run(*command, "--quiet")
    assert "up to date" in run("dvc", "status")
    write_pictures(tmp_path / "real", "train/cat/new.png")
    assert "modified" in run("dvc", "status")


def test_missing_data_path_is_refused(tmp_path):
    assert "expected a folder of pictures, found none" in refused(tmp_path / "none")


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_file_whose_name_is_no_unicode_is_read(tmp_path):
    write_pictures(tmp_path, *TRAIN)
    odd = os.fsencode(tmp_path / "train/cat") + b"/\xff.png"
    os.rename(tmp_path / "train/cat/0.png", odd)  # noqa: PTH104
    origins = load_folder(tmp_path, OPTIONS).origins["train"]
    assert [each.file for each in origins][1] == "train/cat/\\xff.png"


def test_labels_csv(tmp_path):
    write_pictures(tmp_path, "images/b.png", "images/a.png", "c.png", "spare.png")
    write_table(
        tmp_path / "labels.csv", "file,label", "images/b.png,cat", "c.png,dog",
        "images/a.png,dog",
    )  # fmt: skip
    splits, passed_over = found(tmp_path)
    assert splits == {
        "train": [("c.png", "dog"), ("images/a.png", "dog"), ("images/b.png", "cat")]
    }
    assert passed_over == {"spare.png": "not in labels.csv"}


def test_labels_csv_with_splits_and_groups(tmp_path):
    write_pictures(tmp_path, *(f"{number}.png" for number in range(4)))
    write_table(
        tmp_path / "labels.csv", "file,label,split,group", "0.png,cat,train,anna",
        "1.png,dog,Train,ben", "2.png,cat,val,carl", "3.png,dog,test,dora",
    )  # fmt: skip
    source = load_folder(tmp_path, OPTIONS)
    groups = {
        name: [each.group for each in rows] for name, rows in source.origins.items()
    }
    assert groups == {
        "train": ["anna", "ben"],
        "validation": ["carl"],
        "test": ["dora"],
    }
    assert source.validation.labels.tolist() == [0]


def test_metadata_csv_of_hugging_face(tmp_path):
    write_pictures(tmp_path, "a/0.png", "1.png")
    write_table(
        tmp_path / "metadata.csv", "file_name,caption,label", "a/0.png,x,cat",
        "1.png,y,dog",
    )  # fmt: skip
    assert found(tmp_path)[0]["train"] == [("1.png", "dog"), ("a/0.png", "cat")]


def test_metadata_csv_in_each_split(tmp_path):
    write_pictures(tmp_path, "train/0.png", "train/1.png", "test/0.png")
    write_table(
        tmp_path / "train/metadata.csv", "file_name,label", "0.png,cat", "1.png,dog"
    )
    assert "expected one table of labels, found none" in refused(tmp_path)
    write_table(tmp_path / "test/metadata.csv", "file_name,label", "0.png,dog")
    assert found(tmp_path) == (
        {
            "train": [("train/0.png", "cat"), ("train/1.png", "dog")],
            "test": [("test/0.png", "dog")],
        },
        {},
    )


def test_table_of_a_spreadsheet_is_read(tmp_path):
    """With a byte order mark, semicolons, other cases and backslashes."""
    write_pictures(tmp_path, "a/0.png", "1.png")
    write_table(
        tmp_path / "labels.csv", "\ufeffFile;Label", "a\\0.png; cat ", '1.png;"a;b"', ""
    )
    assert found(tmp_path)[0]["train"] == [("1.png", "a;b"), ("a/0.png", "cat")]


def test_file_names_of_a_table_are_compared_after_normalisation(tmp_path):
    composed, apart = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    write_pictures(tmp_path, apart, "1.png")
    write_table(tmp_path / "labels.csv", "file,label", f"{composed},cat", "1.png,dog")
    assert found(tmp_path)[1] == {}
    assert len(load_folder(tmp_path, OPTIONS).train.labels) == 2


GOOD = ("file,label", "0.png,cat", "1.png,dog")
WRONG_TABLES = {
    "no label": (("file,class", "0.png,cat"), "expected the columns file"),
    "two files": (("file,file_name,label", "a,b,c"), "expected the columns file"),
    "a column twice": (("file,label,label", "a,b,c"), "expected the columns file"),
    "no rows": (("file,label",), "found no rows"),
    "a short row": ((*GOOD, "2.png"), "found 1 cells in line 4 for 2 columns"),
    "no name": ((*GOOD, ",cat"), "line 4: file: expected a name, found none"),
    "no class": ((*GOOD, "2.png,"), "line 4: label: expected a name, found none"),
    "twice": ((*GOOD, "0.png,dog"), "line 4: expected each file once, found 0.png"),
    "outside": ((*GOOD, "../a.png,cat"), "line 4: expected a path inside of"),
    "a null": ((*GOOD, "a\0.png,cat"), "line 4: expected a path inside of"),
    "absolute": ((*GOOD, "/a.png,cat"), "line 4: expected a path inside of"),
    "a split": (
        ("file,label,split", "0.png,cat,train", "1.png,dog,trian"),
        "line 3: split: expected train, validation or test, found 'trian'",
    ),
    "no split": (
        ("file,label,split", "0.png,cat,train", "1.png,dog,"),
        "line 3: split: expected train, validation or test, found none",
    ),
    "only test": (
        ("file,label,split", "0.png,cat,test", "1.png,dog,test"),
        "expected rows of the split train, found only test",
    ),
    "one class": (("file,label", "0.png,cat", "1.png,cat"), "at least two classes"),
    "a class of test": (
        ("file,label,split", "0.png,a,train", "1.png,b,train", "2.png,c,test"),
        "2.png: expected one of the classes in train (a, b), found 'c'",
    ),
}


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_wrong_table_is_refused(tmp_path, name):
    rows, message = WRONG_TABLES[name]
    write_pictures(tmp_path, "0.png", "1.png", "2.png")
    write_table(tmp_path / "labels.csv", *rows)
    assert message in refused(tmp_path)


def test_table_of_other_bytes_is_refused(tmp_path):
    write_pictures(tmp_path, "0.png")
    (tmp_path / "labels.csv").write_bytes(b"file,label\n\xff\xfe,cat\n")
    assert "expected a table in UTF-8" in refused(tmp_path)


def test_two_tables_are_refused(tmp_path):
    write_pictures(tmp_path, "0.png", "1.png")
    write_table(tmp_path / "labels.csv", *GOOD)
    write_table(tmp_path / "metadata.csv", *GOOD)
    assert "expected one table of labels, found labels.csv and meta" in refused(
        tmp_path
    )


def test_listed_file_that_is_missing_is_broken(tmp_path):
    write_pictures(tmp_path, "0.png", "1.png")
    write_table(tmp_path / "labels.csv", *GOOD, "gone.png,cat")
    with pytest.raises(DataError, match=r"gone\.png: expected .*, found no file"):
        load_folder(tmp_path, OPTIONS)
    skipped = load_folder(tmp_path, OPTIONS._replace(on_broken="skip"))
    assert len(skipped.train.labels) == 2
    assert skipped.passed_over == [("gone.png", "broken: no file")]
