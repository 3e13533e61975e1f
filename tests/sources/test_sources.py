"""The digits, and the splits that prepare writes."""

import gzip
import json

import numpy as np
import pytest

from src import paths
from src.data.examples import (
    Examples,
    Source,
    check_examples,
    data_warnings,
)
from src.data.prepared import (
    check_source,
    load_manifest,
    load_split,
    save_prepared,
    split_source,
)
from src.data.summary import summary_lines
from src.errors import DataError
from src.sources.digits import load_digits
from src.storage.json_files import SEAL
from tests.helpers.examples import patterned
from tests.helpers.files import committed, write_record
from tests.helpers.imports import ROOT

DIGITS = ROOT / "data/raw"
SPLITS = ("train", "validation", "test")


def source(train=None, **others):
    train = train or patterned(60, seed=0)
    names = ["a", "b", "c"]
    given = {"validation": None, "test": None} | others
    return Source("mine", "1", names, train, given["validation"], given["test"])


def test_rules_of_conversion_are_notes_of_prepare():
    given = source()._replace(notes=["train: a rule."])
    found = summary_lines(given, split_source(given, 0.2, seed=0), {})
    assert found[1] == "note: train: a rule."


def test_digits_match_scikit_learn():
    from sklearn.datasets import load_digits as sklearn_digits

    bunch = sklearn_digits()
    digits = load_digits(DIGITS)
    for split in (digits.train, digits.test):
        assert {image.tobytes() for image in split.images} <= {
            np.uint8(np.floor(image * 255 / 16 + 0.5)).tobytes()
            for image in bunch.images
        }
    assert len(digits.train.labels) + len(digits.test.labels) == len(bunch.target)


def test_every_fifth_image_of_a_digit_is_a_test_image():
    with gzip.open(DIGITS / "digits.csv.gz", "rt") as file:
        rows = [[int(number) for number in line.split(",")] for line in file]
    seen = dict.fromkeys(range(10), 0)
    expected = []
    for *pixels, label in rows:
        seen[label] += 1
        if seen[label] % 5 == 0:
            expected.append((label, [int(pixel * 255 / 16 + 0.5) for pixel in pixels]))
    test = load_digits(DIGITS).test
    found = [
        (int(label), image.ravel().tolist()) for image, label in zip(*test, strict=True)
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not gzip", "expected a gzipped table of integers"),
        (gzip.compress(b"1,2,3\n"), "expected rows of 64 pixels from 0 to 16"),
        (gzip.compress(b"\n"), "found an empty file"),
        (gzip.compress(b"3\n"), "expected rows of 64 pixels from 0 to 16"),
        (
            gzip.compress(b"17," * 64 + b"0\n"),
            "expected rows of 64 pixels from 0 to 16",
        ),
        (
            gzip.compress(b"1," * 64 + b"10\n"),
            "labels: expected 0 to 9, found 1 outside",
        ),
        (gzip.compress(b"1,x\n"), "expected a gzipped table of integers"),
        (gzip.compress(b"1,2\n")[:-9], "expected a gzipped table of integers"),
    ],
    # Gzip stores the time, so names made from the bytes would differ between runs.
    ids=[
        "not packed",
        "too few pixels",
        "empty",
        "no pixels",
        "a pixel of 17",
        "a label of 10",
        "a letter",
        "cut short",
    ],
)
def test_broken_digits_are_refused(tmp_path, content, message):
    (tmp_path / "digits.csv.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_digits(tmp_path)


def test_source_with_all_splits_is_left_unchanged():
    given = source(validation=patterned(10, seed=1), test=patterned(20, seed=2))
    splits = split_source(given, 0.5, seed=0)
    for name in SPLITS:
        assert splits[name] is getattr(given, name)


def test_missing_test_split_is_split_off_from_train():
    splits = split_source(source(), 0.25, seed=0)
    sizes = [len(splits[name].labels) for name in SPLITS]
    assert sum(sizes) == 60
    assert sizes[2] in range(11, 14)


def test_probable_mistakes_in_the_data_give_warnings(prepared):
    train, test = patterned(20, seed=0), patterned(20, seed=1)
    assert data_warnings(train, test, ["a", "b", "c"]) == []
    missing, constant = data_warnings(
        Examples(
            np.where(np.arange(20)[:, None, None, None] < 3, 9, train.images), None
        )._replace(labels=np.zeros(20, np.int32)),
        test,
        ["a", "b", "c"],
    )
    others = int((test.labels > 0).sum())
    assert missing == (
        "no training example of b, c: never predicted, though these classes have "
        f"{others} test examples."
    )
    assert constant == "3 training images in which all pixels are equal."
    (dark,) = data_warnings(
        train._replace(images=train.images % 2), test, ["a", "b", "c"]
    )
    assert dark.startswith("expected pixels from 0 to 255, found 0 to 1: ")


def test_manifest_counts_duplicates_across_splits(prepared):
    train, test = patterned(20, seed=0), patterned(20, seed=1)
    test.images[:3] = train.images[5:8]
    given = source(train, validation=patterned(5, seed=2), test=test)
    committed(save_prepared, given, split_source(given, 0.5, seed=0))
    counts = json.loads(paths.MANIFEST.read_text())["in_both"]
    assert counts == {"train_test": 3, "train_validation": 0, "validation_test": 0}


def test_prepared_split_is_read_back_unchanged(prepared):
    expected = patterned(37, seed=3)
    found = load_split("test", load_manifest())
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_prepared_split_is_not_compressed(prepared):
    import zipfile

    with zipfile.ZipFile(paths.PREPARED / "train.npz") as archive:
        assert {info.compress_type for info in archive.infolist()} == {0}


def test_changed_split_is_refused_by_its_digest(prepared):
    path = paths.PREPARED / "train.npz"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train\.npz: expected SHA-256 .* dvc repro"):
        load_split("train", load_manifest())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": np.zeros((4, 2, 2, 1), np.float32)},
            "images: expected uint8 with 4",
        ),
        (
            {"images": np.zeros((4, 2, 2), np.uint8)},
            "images: expected uint8 with 4 dimen",
        ),
        (
            {"images": np.zeros((4, 2, 0, 1), np.uint8)},
            "at least one image with pixels",
        ),
        ({"images": np.zeros((3, 2, 2, 1), np.uint8)}, "found 3 images and 4 labels"),
        ({"labels": np.zeros(4, np.int64)}, "labels: expected int32 with 1 dimensions"),
        ({"labels": np.eye(4, dtype=np.int32)}, "labels: expected int32 with 1 dimens"),
        (
            {"labels": np.array([0, 1, -1, 3], np.int32)},
            "labels: expected 0 to 2, found 2 outside, the first -1 at index 2",
        ),
    ],
)
def test_malformed_examples_are_refused(changes, message):
    good = {"images": np.zeros((4, 2, 2, 1), np.uint8), "labels": np.zeros(4, np.int32)}
    with pytest.raises(DataError, match=f"here: .*{message}"):
        check_examples(Examples(**good | changes), 3, "here")


def test_splits_of_different_shapes_are_refused():
    other = patterned(5, seed=1, shape=(8, 9, 1))
    with pytest.raises(DataError, match=r"test: images: expected shape \[8, 8, 1\]"):
        check_source(source(test=other))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("class_names", 3, r"class_names: .* dvc repro prepare"),
        ("sha256", [], r"sha256: .* dvc repro prepare"),
        ("image_shape", ["a", 8, 1], r"image_shape\.0: .* dvc repro prepare"),
        (
            "image_shape",
            [4, 16, 1],
            r"expected shape \[4, 16, 1\] .* found \[8, 8, 1\]",
        ),
    ],
)
def test_manifest_of_other_content_is_refused(prepared, key, value, message):
    content = json.loads(paths.MANIFEST.read_text())
    del content[SEAL]
    write_record(paths.MANIFEST, content | {key: value})
    with pytest.raises(DataError, match=message):
        load_split("train", load_manifest())


def test_single_class_is_refused():
    images = np.zeros((4, 2, 2, 1), np.uint8)
    train = Examples(images, np.zeros(4, np.int32))
    with pytest.raises(
        DataError, match="expected at least two classes, found only cat"
    ):
        check_source(Source("mine", "1", ["cat"], train, None, None))
