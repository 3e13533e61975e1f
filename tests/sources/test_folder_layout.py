"""Layouts of folders of pictures: which file is of which class, split and group."""

import os
import subprocess
import unicodedata

import numpy as np
import pytest

from src.data.prepared import check_source
from src.data.splitting import split_rows
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
        ("train/cat/2023/a.png", "train/cat/2024/b.png", "train/dog/2023/c.png"),
        ("cat/2023-05-01/a.png", "cat/2023-05-02/b.png", "dog/c.png"),  # days
        ("cat/Images/2024/b.png", "cat/images/2023/a.png", "dog/images/c.png"),
        ("cat/a.png", "cat/cropped/b.png", "dog/c.png"),
        ("train/n01/images/a.png", "train/n02/images/b.png"),  # Tiny ImageNet
    ],
)
def test_pictures_that_are_all_in_sorting_folders_are_read(tmp_path, names):
    splits, _ = found(write_pictures(tmp_path, *names))
    level = 1 if names[0].startswith("train/") else 0
    assert splits["train"] == [(name, name.split("/")[level]) for name in names]
    assert find_layout(tmp_path).warnings == []


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
        "$RECYCLE.BIN/S-1-5-21/$R1.png",
        "train/$Recycle.Bin/0.png",
        "lost+found/0.png",
        "train/lost+found/0.png",
        "System Volume Information/0.png",
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
    assert "found 1 other file, such as train/cat/a.pdf" in refused(tmp_path)


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
    assert "Did you mean 'cat'? Rename the folder" in message


@pytest.mark.parametrize("name", ["test/1.png", "test/2.jpg"])
def test_flat_test_folder_can_be_moved_away_and_classified(tmp_path, name):
    write_pictures(tmp_path, *TRAIN, name)
    message = refused(tmp_path)
    assert "move it away" in message
    assert "`python -m stages.predict test/`" in message
    (tmp_path / "test").rename(tmp_path.parent / f"{tmp_path.name}-test")
    splits, _ = found(tmp_path)
    assert list(splits) == ["train"]


@pytest.mark.parametrize("top", ["val", "Test"])
def test_pictures_in_a_folder_of_no_class_are_moved_away_or_sorted(tmp_path, top):
    """As in Tiny ImageNet."""
    message = refused(write_pictures(tmp_path, *TRAIN, f"{top}/images/9.png"))
    assert "expected one of the classes in train (cat, dog), found 'images'" in message
    assert f"move {tmp_path / top} away" in message
    assert f"`python -m stages.predict {top}/`" in message
    assert "folders of these classes" in message
    (tmp_path / top / "images").rename(tmp_path / top / "dog")
    assert len(found(tmp_path)[0]) == 2
    (tmp_path / top).rename(tmp_path.parent / f"{tmp_path.name}-away")
    assert list(found(tmp_path)[0]) == ["train"]


def test_odd_class_among_known_ones_is_renamed(tmp_path):
    write_pictures(tmp_path, *TRAIN, "test/cat/8.png", "test/hound/9.png")
    message = refused(tmp_path)
    assert "found 'hound'. Rename the folder, or add training pictures" in message
    assert "predict" not in message
    (tmp_path / "test/hound").rename(tmp_path / "test/dog")
    assert found(tmp_path)[0]["test"][1] == ("test/dog/9.png", "dog")


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


@pytest.mark.parametrize("more", [[], ["cat/loose.png"], ["cow/loose.png"]])
def test_splits_below_classes_are_refused_until_the_levels_are_swapped(tmp_path, more):
    names = ["cat/train/0.png", "cat/test/1.png", "dog/train/2.png", "dog/test/3.png"]
    message = refused(write_pictures(tmp_path, *names, *more))
    assert "expected test/<class>, found <class>/test, such as cat/test." in message
    assert f"so that its pictures are in {tmp_path}/test/cat" in message
    for name in names:
        class_name, split, file = name.split("/")
        (tmp_path / split / class_name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name).rename(tmp_path / split / class_name / file)
    assert found(tmp_path)[0] == {
        "train": [("train/cat/0.png", "cat"), ("train/dog/2.png", "dog")],
        "test": [("test/cat/1.png", "cat"), ("test/dog/3.png", "dog")],
    }


def test_split_anywhere_inside_a_class_of_train_is_refused(tmp_path):
    message = refused(write_pictures(tmp_path, *TRAIN, "train/cat/2024/val/9.png"))
    assert "such as cat/2024/val." in message
    assert f"so that its pictures are in {tmp_path}/val/cat" in message
    (tmp_path / "val/cat").mkdir(parents=True)
    (tmp_path / "train/cat/2024/val/9.png").rename(tmp_path / "val/cat/9.png")
    (tmp_path / "train/cat/2024/val").rmdir()
    assert found(tmp_path)[0]["validation"] == [("val/cat/9.png", "cat")]


DOMAINS = {  # which layouts of public data sets have above their classes
    "PACS": [f"{top}/{name}" for top in ("photo", "sketch") for name in ("cat", "dog")],
    "in train": [f"train/{top}/{name}" for top in "ps" for name in ("cat", "dog")],
    "Office-31": [f"{top}/images/{name}" for top in "ad" for name in ("cat", "dog")],
    "folds": [f"fold{number}/{name}" for number in "123" for name in ("cat", "dog")],
    "years": [f"{year}/{name}" for year in (2023, 2024) for name in ("cat", "dog")],
    "loose": ["pet/cat", "pet/dog", "farm/cow", "farm"],
    "masks": [f"{name}/{kind}" for name in ("cat", "dog") for kind in "im"],
}


@pytest.mark.parametrize("name", DOMAINS)
def test_levels_above_the_classes_are_refused_until_a_table_tells(tmp_path, name):
    folders = DOMAINS[name]
    names = [f"{folder}/{number}.png" for number, folder in enumerate(folders)]
    message = refused(write_pictures(tmp_path, *names))
    assert "expected one level of class folders, found two, such as" in message
    first = tmp_path / ("train" if name == "in train" else "")
    outer = sorted({folder.removeprefix("train/").split("/")[0] for folder in folders})
    assert f"the outer ones ({', '.join(outer)}) would be the classes" in message
    assert f"{first}: " in message
    assert f"{tmp_path / 'labels.csv'}" in message
    rows = [f"{name},{name.split('/')[-2]}" for name in names]
    write_table(tmp_path / "labels.csv", "file,label", *rows)
    splits, _ = found(tmp_path)
    assert {label for _, label in splits["train"]} == {
        folder.split("/")[-1] for folder in folders
    }


def test_classes_below_domains_can_be_moved_up(tmp_path):
    folders = DOMAINS["PACS"]
    names = [f"{folder}/{number}.png" for number, folder in enumerate(folders)]
    message = refused(write_pictures(tmp_path, *names))
    assert f"move them up into {tmp_path}" in message
    for name in names:
        _, class_name, file = name.split("/")
        (tmp_path / class_name).mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / class_name / file)
    splits, _ = found(tmp_path)
    assert [label for _, label in splits["train"]] == ["cat", "cat", "dog", "dog"]


@pytest.mark.parametrize("deep", ["", "/images"])
def test_short_numbers_inside_of_classes_are_named_in_a_warning(tmp_path, deep):
    """They may be the classes, as in `mnist/0`, `usps/0`."""
    names = [
        f"{domain}{deep}/{digit}/a.png"
        for domain in ("mnist", "usps")
        for digit in "01"
    ]
    (warning,) = find_layout(write_pictures(tmp_path, *names)).warnings
    assert warning == (
        f"{tmp_path}: the classes are mnist, usps; folders inside of them (0, 1) only "
        "sort their pictures. If those are the classes, move them up."
    )


def test_only_class_of_validation_may_have_years_in_it(tmp_path):
    names = ["val/cat/2023/0.png", "val/cat/2024/1.png"]
    splits, _ = found(write_pictures(tmp_path, *TRAIN, *names))
    assert splits["validation"] == [(name, "cat") for name in names]


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


@pytest.mark.parametrize("above", ["", "pictures/"])
def test_split_of_a_row_is_its_folder_if_the_table_has_no_splits(tmp_path, above):
    names = [f"{above}{top}/{n}.png" for top in ("test", "Train", "val") for n in "01"]
    write_pictures(tmp_path, *names)
    rows = [f"{name},{'cat' if '0' in name else 'dog'}" for name in names]
    write_table(tmp_path / "labels.csv", "file,label", *rows)
    splits, _ = found(tmp_path)
    assert splits == {
        split: [(f"{above}{top}/0.png", "cat"), (f"{above}{top}/1.png", "dog")]
        for split, top in (
            ("train", "Train"), ("test", "test"), ("validation", "val")
        )
    }  # fmt: skip


def test_column_split_is_preferred_to_the_folder(tmp_path):
    write_pictures(tmp_path, "test/0.png", "test/1.png", "train/2.png")
    write_table(
        tmp_path / "labels.csv", "file,label,split", "test/0.png,cat,train",
        "test/1.png,dog,train", "train/2.png,dog,test",
    )  # fmt: skip
    assert {name: len(rows) for name, rows in found(tmp_path)[0].items()} == {
        "train": 2,
        "test": 1,
    }


def test_rows_in_and_outside_of_folders_of_splits_need_a_column_split(tmp_path):
    names = ("test/0.png", "train/1.png", "other/2.png", "train/3.png")
    write_pictures(tmp_path, *names)
    rows = [f"{name},{number % 2}" for number, name in enumerate(names)]
    write_table(tmp_path / "labels.csv", "file,label", *rows)
    message = refused(tmp_path)
    assert "labels.csv: line 4: expected other/2.png in a folder train" in message
    assert "as test/0.png is" in message
    assert "Move it there, or add a column split" in message
    rows = [f"{row},{'test' if 'test' in row else 'train'}" for row in rows]
    write_table(tmp_path / "labels.csv", "file,label,split", *rows)
    assert len(found(tmp_path)[0]["train"]) == 3


def test_pictures_in_a_folder_test_alone_can_be_of_train_by_a_column(tmp_path):
    write_pictures(tmp_path, "test/0.png", "test/1.png")
    rows = ("test/0.png,cat", "test/1.png,dog")
    write_table(tmp_path / "labels.csv", "file,label", *rows)
    message = refused(tmp_path)
    assert "expected rows of the split train, found only test" in message
    assert "or name them train in a column split" in message
    rows = [f"{row},train" for row in rows]
    write_table(tmp_path / "labels.csv", "file,label,split", *rows)
    assert list(found(tmp_path)[0]) == ["train"]


def test_groups_are_compared_after_normalisation(tmp_path):
    write_pictures(tmp_path, "0.png", "1.png", "2.png")
    composed, apart = (unicodedata.normalize(form, "café1") for form in ("NFC", "NFD"))
    write_table(
        tmp_path / "labels.csv", "file,label,split,group",
        f"0.png,cat,train,{composed}", "1.png,dog,train,b", f"2.png,cat,test,{apart}",
    )  # fmt: skip
    with pytest.raises(DataError, match="all its pictures in one split"):
        check_source(load_folder(tmp_path, OPTIONS))


@pytest.mark.parametrize("name", ["é.jpe", "scan", ".hidden/2.png"])
def test_listed_file_of_any_name_is_used_and_not_passed_over(tmp_path, name):
    written = unicodedata.normalize("NFD", name)
    write_pictures(tmp_path, "0.png", "1.png", "2.png")
    (tmp_path / written).parent.mkdir(exist_ok=True)
    (tmp_path / "2.png").rename(tmp_path / written)
    write_table(
        tmp_path / "labels.csv", *GOOD, f"{unicodedata.normalize('NFC', name)},a"
    )
    source = load_folder(tmp_path, OPTIONS)
    assert len(source.train.labels) == 3
    assert source.passed_over == []


def test_label_that_train_lacks_is_corrected_in_the_table(tmp_path):
    write_pictures(tmp_path, "0.png", "1.png", "2.png")
    rows = ("0.png,cat,train", "1.png,dog,train")
    write_table(tmp_path / "labels.csv", "file,label,split", *rows, "2.png,dgo,test")
    message = refused(tmp_path)
    assert "found 'dgo'. Did you mean 'dog'? Correct the label" in message
    assert "predict" not in message
    write_table(tmp_path / "labels.csv", "file,label,split", *rows, "2.png,dog,test")
    assert found(tmp_path)[0]["test"] == [("2.png", "dog")]


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


CORRECTED = "file,label,given_label"


def labels_by_file(source):
    return {
        origin.file: source.class_names[label]
        for name, origins in source.origins.items()
        for origin, label in zip(origins, getattr(source, name).labels, strict=True)
    }


def test_corrections_change_the_labels_of_their_files_alone(tmp_path):
    write_pictures(tmp_path, *TRAIN, "test/cat/8.png", "spare/x.png")
    before = load_folder(tmp_path, OPTIONS)
    rows = "train/cat/1.png,dog,cat", "test/cat/8.png,dog,cat"
    write_table(tmp_path / "labels.csv", CORRECTED, *rows)
    after = load_folder(tmp_path, OPTIONS)
    changed = {"train/cat/1.png": "dog", "test/cat/8.png": "dog"}
    assert labels_by_file(after) == labels_by_file(before) | changed
    assert after.passed_over == before.passed_over
    assert after.class_names == before.class_names
    assert after.notes == [f"{tmp_path / 'labels.csv'}: corrects 2 labels."]
    np.testing.assert_array_equal(after.train.images, before.train.images)


def test_corrections_change_a_table_of_another_name(tmp_path):
    write_pictures(tmp_path, "0.png", "1.png", "2.png")
    table = "file,label,group", "0.png,cat,anna", "1.png,dog,ben", "2.png,dog,ben"
    write_table(tmp_path / "metadata.csv", *table)
    before = load_folder(tmp_path, OPTIONS)
    write_table(tmp_path / "labels.csv", CORRECTED, "1.png,cat,dog")
    after = load_folder(tmp_path, OPTIONS)
    assert labels_by_file(after) == labels_by_file(before) | {"1.png": "cat"}
    assert after.origins == before.origins


@pytest.mark.parametrize("grouped", [False, True])
def test_corrections_move_no_picture_to_another_split(tmp_path, grouped):
    names = [f"{number:02}.png" for number in range(60)]
    write_pictures(tmp_path, *names)
    rows = [
        f"{name},{'abc'[index % 3]},{index // 2 if grouped else ''}"
        for index, name in enumerate(names)
    ]
    write_table(tmp_path / "metadata.csv", "file,label,group", *rows)
    before = split_rows(load_folder(tmp_path, OPTIONS), 0.2, seed=0)
    wrong = [f"{name},c,{'abc'[index % 3]}" for index, name in enumerate(names[:20])]
    write_table(tmp_path / "labels.csv", CORRECTED, *wrong)
    after = split_rows(load_folder(tmp_path, OPTIONS), 0.2, seed=0)
    for split, (given, expected) in before.items():
        assert after[split][0] == given
        np.testing.assert_array_equal(after[split][1], expected)


def test_class_that_loses_its_pictures_by_corrections_stays(tmp_path):
    write_pictures(tmp_path, *TRAIN, "train/emu/0.png")
    write_table(tmp_path / "labels.csv", CORRECTED, "train/emu/0.png,dog,emu")
    source = load_folder(tmp_path, OPTIONS)
    assert source.class_names == ["cat", "dog", "emu"]
    assert source.train.labels.tolist() == [0, 0, 1, 1, 1]


WRONG_CORRECTIONS = {
    "file that is not there": (
        "train/cat/9.png,dog,cat",
        "labels.csv: line 2: expected a picture of the data set, found train/cat/9.png",
    ),
    "class that is not there": (
        "train/cat/0.png,dgo,cat",
        "line 2: expected one of the classes in train (cat, dog), found 'dgo'. Did you "
        "mean 'dog'? Correct the label.",
    ),
    "no label": ("train/cat/0.png,,cat", "line 2: label: expected a name, found none"),
    "file outside": ("../0.png,dog,cat", "expected a path inside of the table's"),
    "no row": ("", "found no rows"),
}


@pytest.mark.parametrize("name", WRONG_CORRECTIONS)
def test_wrong_correction_is_refused(tmp_path, name):
    row, message = WRONG_CORRECTIONS[name]
    write_pictures(tmp_path, *TRAIN)
    write_table(tmp_path / "labels.csv", CORRECTED, row)
    assert message in refused(tmp_path)


def test_file_that_is_corrected_twice_is_refused(tmp_path):
    write_pictures(tmp_path, *TRAIN)
    row = "train/cat/0.png,dog,cat"
    write_table(tmp_path / "labels.csv", CORRECTED, row, row)
    assert "expected each file once" in refused(tmp_path)
