"""Tables of pixels: a row an image, one column of labels, a column for each pixel."""

import numpy as np
import pytest

from src.data.lazy_images import LazyImages
from src.data.prepared import check_source
from src.errors import DataError
from src.sources.table_csv import load_csv
from tests.helpers.examples import patterned

TRAIN, TEST = patterned(12, seed=0), patterned(6, seed=1)
NAMES = [f"pixel{number}" for number in range(64)]
PLACES = [f"{row}x{column}" for row in range(1, 9) for column in range(1, 9)]


def table(split=TRAIN, names=NAMES, label="label", labels=None, last=False):
    """The text of a table; without `label`, it has pixels only."""
    values = split.labels if labels is None else labels
    lines = [] if names is None else [[*names] if label is None else [label, *names]]
    for image, value in zip(split.images, values, strict=True):
        pixels = image.reshape(-1).tolist()
        lines.append(pixels if label is None else [value, *pixels])
    if last:
        lines = [[*pixels, value] for value, *pixels in lines]
    return "".join(",".join(map(str, line)) + "\n" for line in lines)


def same(found, expected):
    assert found.images.dtype == np.uint8
    assert found.labels.dtype == np.int32
    np.testing.assert_array_equal(found.images[:], expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train.csv", "test.csv"),
        ("sign_mnist_train.csv", "sign_mnist_test.csv"),
        ("fashion-mnist_train.csv", "fashion-mnist_test.csv"),
    ],
)
def test_tables_of_train_and_test_are_found(tmp_path, train, test):
    (tmp_path / train).write_text(table())
    (tmp_path / test).write_text(table(TEST))
    (tmp_path / "val.csv").write_text(table(TEST))
    found = load_csv(tmp_path)
    same(found.train, TRAIN)
    same(found.test, TEST)
    same(found.validation, TEST)
    assert found.class_names == ["0", "1", "2"]
    assert found.passed_over == []


def test_test_table_of_a_competition_is_passed_over(tmp_path):
    (tmp_path / "train.csv").write_text(table())
    (tmp_path / "test.csv").write_text(table(TEST, label=None))
    (tmp_path / "sample_submission.csv").write_text("ImageId,Label\n1,0\n")
    found = load_csv(tmp_path)
    same(found.train, TRAIN)
    assert found.test is None
    assert found.passed_over == [
        ("sample_submission.csv", "not named like a split"),
        ("test.csv", "no column of labels, so it cannot be scored"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        table(names=[f"pixel{number}" for number in range(1, 65)]),
        table(names=PLACES),
        table(
            names=[f"pixel{number:04}" for number in range(64)], label="y", last=True
        ),
        table(label="Class"),
        table(names=None),
        "\ufeff" + table(),
        table().replace("\n", "\r\n"),
        table(names=[f'"{name}"' for name in NAMES], label='"target"'),
    ],
    ids=[
        *("from pixel1", "row x column", "label last", "a capital", "no header"),
        *("a byte order mark", "Windows lines", "quotes"),
    ],
)
@pytest.mark.parametrize("of", ["the folder", "the file"])
def test_only_table_is_train(tmp_path, text, of):
    path = tmp_path / "digits.csv"
    path.write_bytes(text.encode())
    found = load_csv(tmp_path if of == "the folder" else path)
    same(found.train, TRAIN)
    assert found.test is None


def test_column_of_row_numbers_is_no_pixel(tmp_path):
    lines = table().splitlines()
    numbered = [f"{number},{line}" for number, line in enumerate(lines[1:])]
    (tmp_path / "train.csv").write_text("\n".join([f",{lines[0]}", *numbered]))
    same(load_csv(tmp_path).train, TRAIN)


def test_pixels_in_other_columns_keep_their_places(tmp_path):
    order = np.random.default_rng(0).permutation(64)
    shuffled = TRAIN._replace(images=TRAIN.images.reshape(12, 64)[:, order])
    for names in (NAMES, PLACES):
        text = table(shuffled, [names[number] for number in order])
        (tmp_path / "train.csv").write_text(text)
        same(load_csv(tmp_path).train, TRAIN)


def test_three_numbers_a_pixel_are_colours(tmp_path):
    colour = patterned(12, seed=0, shape=(8, 8, 3))
    names = [f"pixel{number:04}" for number in range(192)]
    (tmp_path / "hmnist_8_8_RGB.csv").write_text(table(colour, names))
    same(load_csv(tmp_path).train, colour)


def test_places_may_be_an_oblong(tmp_path):
    oblong = patterned(12, seed=0, shape=(8, 5, 1))
    names = [f"{row}x{column}" for row in range(8) for column in range(5)]
    (tmp_path / "train.csv").write_text(table(oblong, names))
    same(load_csv(tmp_path).train, oblong)


def test_labels_of_text_are_classes(tmp_path):
    names = np.array(["cat", "dog, big", "z"])
    text = table(labels=[f'"{name}"' for name in names[TRAIN.labels]])
    (tmp_path / "train.csv").write_text(text)
    found = load_csv(tmp_path)
    same(found.train, TRAIN)
    assert found.class_names == names.tolist()


def test_labels_with_gaps_are_the_classes_in_their_order(tmp_path):
    labels = np.array([8, 10, 24])[TRAIN.labels]
    (tmp_path / "train.csv").write_text(table(labels=labels))
    found = load_csv(tmp_path)
    same(found.train, TRAIN)
    assert found.class_names == ["8", "10", "24"]


def test_large_table_is_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("src.sources.table_csv.BLOCK_BYTES", 1000)
    monkeypatch.setattr("src.data.lazy_images.MAX_IN_MEMORY", 100)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.csv").write_text(table())
    found = load_csv(tmp_path)
    assert isinstance(found.train.images, LazyImages)
    same(found.train, TRAIN)


LINES = table().splitlines()
WRONG = {
    "256": (
        ",".join(["label", *NAMES]) + "\n1,256" + ",3" * 63,
        "invalid value '256'",
    ),
    "a negative pixel": (table(TRAIN).replace(",1", ",-1", 99), "invalid value"),
    "a float": ("\n".join([LINES[0], LINES[1] + ".5"]), "invalid value"),
    "an empty field": ("\n".join([LINES[0], "1," + "," * 63]), "an empty field"),
    "an empty label": ("\n".join([LINES[0], "," + LINES[1][2:]]), "an empty field"),
    "a short row": ("\n".join([*LINES[:3], "1,2"]), "Expected 65 columns"),
    "no rows": (LINES[0], "found none"),
    "nothing": ("", "found 0 columns"),
    "no label": (table(label=None), "one column of labels"),
    "two labels": ("label,y,pixel0\n", "found 3 columns"),
    "features": (
        "label,height,width\n1,2,3",
        "such as 'height'",
    ),
    "a name twice": ("label,pixel1,pixel1\n1,2,3", "found 3 columns"),
    "file names": ("file,label\na.png,cat\n", "'file'. For .* set dataset: folder"),
    "too many columns": ("label," + "a," * 51_000, "found 51002 columns"),
    "semicolons": (table().replace(",", ";"), "found 1 columns"),
    "not square": (
        "label," + ",".join(NAMES[:60]) + "\n",
        "found 60 columns of pixels",
    ),
    "a long label": (f"label,pixel0\n{'a' * 101},3\n", "found 101: 'aaa"),
    "no text": ("label,pixel0\n1,\0", "invalid value"),
}


@pytest.mark.parametrize("name", WRONG)
def test_malformed_table_is_refused(tmp_path, name):
    text, message = WRONG[name]
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(DataError, match=rf"train\.csv: .*{message}"):
        check_source(load_csv(tmp_path))


def test_other_bytes_are_refused(tmp_path):
    (tmp_path / "train.csv").write_bytes(b"\xff\xfe\x80,1\n")
    with pytest.raises(DataError, match=r"train\.csv: expected a table of text"):
        load_csv(tmp_path)


def test_oblong_tables_are_accepted_after_the_advice(tmp_path):
    oblong = patterned(12, seed=0, shape=(8, 5, 1))
    path = tmp_path / "train.csv"
    path.write_text(table(oblong, NAMES[:40]))
    with pytest.raises(DataError, match="Name the columns 1x1, 1x2"):
        load_csv(tmp_path)
    names = [f"{row}x{column}" for row in range(1, 9) for column in range(1, 6)]
    path.write_text(table(oblong, names))
    same(load_csv(tmp_path).train, oblong)


@pytest.mark.parametrize("names", [(), ("a.csv", "b.csv"), ("test.csv",)])
def test_folder_without_a_table_of_train_is_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text(table())
    shown = ", ".join(names) or "no csv file"
    with pytest.raises(DataError, match=rf"train\.csv: expected .*found {shown}\. Put"):
        load_csv(tmp_path)


def test_two_tables_of_train_are_refused(tmp_path):
    for name in ("train.csv", "mnist_train.csv"):
        (tmp_path / name).write_text(table())
    with pytest.raises(DataError, match=r"found mnist_train\.csv and train\.csv"):
        load_csv(tmp_path)
