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
        table(names=range(1, 65), label=0),
        table(names=range(64), label=64, last=True),
        table().replace(",", ";"),
        table().replace(",", "\t"),
    ],
    ids=[
        *("from pixel1", "row x column", "label last", "a capital", "no header"),
        *("a byte order mark", "Windows lines", "quotes", "numbers as names"),
        *("numbers as names, label last", "semicolons", "tabs"),
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


def test_numbers_as_names_next_to_row_numbers_are_no_picture(tmp_path):
    lines = table(names=range(1, 65), label=0).splitlines()
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


@pytest.mark.parametrize(
    "name", ["{letter}{number}", "{word}_{place}", "pixel{number}_{letter}"]
)
def test_names_tell_that_all_of_red_comes_first(tmp_path, name):
    colour = patterned(12, seed=0, shape=(4, 4, 3))
    planar = colour._replace(images=colour.images.transpose(0, 3, 1, 2))
    names = [
        name.format(letter=word[0], word=word, number=n, place=f"{n // 4}x{n % 4}")
        for word in ("red", "green", "blue")
        for n in range(16)
    ]
    (tmp_path / "train.csv").write_text(table(planar, names))
    found = load_csv(tmp_path)
    same(found.train, colour)
    assert found.notes == []


def test_order_of_colours_is_said_and_the_advice_changes_it(tmp_path):
    colour = patterned(12, seed=0, shape=(4, 4, 3))
    planar = colour._replace(images=colour.images.transpose(0, 3, 1, 2))
    path = tmp_path / "train.csv"
    path.write_text(table(planar, [f"pixel{number}" for number in range(48)]))
    (note,) = load_csv(tmp_path).notes
    assert note == (
        "train.csv: 48 columns of pixels are read as RGB, with the three values of a "
        "pixel together. If all of red comes first, name them r0, ..., r15, g0, ..., "
        "g15, b0, ..., b15."
    )
    names = [f"{letter}{number}" for letter in "rgb" for number in range(16)]
    path.write_text(table(planar, names))
    same(load_csv(tmp_path).train, colour)


LAST_IS_0 = TRAIN.images.copy()
LAST_IS_0[:, -1, -1] = 0
NOISE = np.random.default_rng(0).integers(0, 20, (600, 8, 8, 1), np.uint8)
GREYS = patterned(600, seed=3)._replace(images=NOISE)  # each pixel is 0 to 19


@pytest.mark.parametrize("last", [False, True])
def test_label_without_a_name_is_at_the_end_that_may_be_one(tmp_path, last):
    split = TRAIN._replace(images=LAST_IS_0[:, ::-1, ::-1] if last else LAST_IS_0)
    (tmp_path / "train.csv").write_text(table(split, None, last=last))
    # By themselves, these would not tell.
    (tmp_path / "test.csv").write_text(table(GREYS, None, last=last))
    (tmp_path / "val.csv").write_text(table(GREYS, None, label=None))
    found = load_csv(tmp_path)
    same(found.train, split)
    same(found.test, GREYS)
    which, counts = ("last", (1, 3)) if last else ("first", (3, 1))
    assert found.notes == [
        f"train.csv: the {which} column is read as labels (distinct values: "
        f"{counts[0]} in the first, {counts[1]} in the last)."
    ]
    assert [each.file for each in found.passed_over] == ["val.csv"]


@pytest.mark.parametrize("last", [False, True])
def test_label_without_a_name_has_fewer_values_without_gaps(tmp_path, last):
    gaps = GREYS._replace(images=GREYS.images * 2)
    (tmp_path / "train.csv").write_text(table(gaps, None, last=last))
    same(load_csv(tmp_path).train, gaps)


@pytest.mark.parametrize("last", [False, True])
def test_label_of_text_needs_no_name(tmp_path, last):
    names = np.array(["cat", "dog", "owl"])
    text = table(GREYS, None, labels=names[GREYS.labels], last=last)
    (tmp_path / "train.csv").write_text(text)
    found = load_csv(tmp_path)
    same(found.train, GREYS)
    assert found.class_names == names.tolist()


@pytest.mark.parametrize("last", [False, True])
def test_table_in_which_both_ends_may_be_labels_is_read_after_the_advice(
    tmp_path, last
):
    path = tmp_path / "train.csv"
    path.write_text(table(GREYS, None, last=last))
    with pytest.raises(DataError, match="as there is no column named label") as refused:
        load_csv(tmp_path)
    counts = (20, 3) if last else (3, 20)
    shown = "found distinct values: {} in the first, {} in the last"
    assert shown.format(*counts) in str(refused.value)
    assert str(refused.value).endswith(
        "Name the columns in the first line: label,1,2,...,64 or 1,2,...,64,label"
    )
    path.write_text(table(GREYS, range(1, 65), last=last))
    same(load_csv(tmp_path).train, GREYS)


def fer2013(split, usage=None, names="emotion,pixels,Usage"):
    """The text of a table whose pixels are in one column."""
    lines = [names]
    for row, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
        pixels = " ".join(map(str, image.reshape(-1).tolist()))
        lines.append(f"{label},{pixels}" + (f",{usage[row]}" if usage else ""))
    return "\n".join(lines) + "\n"


def test_pixels_in_one_column_and_a_column_of_splits_are_read(tmp_path):
    usage = ["Training", "PublicTest", "Training", "PrivateTest"] * 3
    (tmp_path / "fer2013.csv").write_text(fer2013(TRAIN, usage))
    found = load_csv(tmp_path)
    for split, word in (
        *(("train", "Training"), ("validation", "PublicTest")),
        ("test", "PrivateTest"),
    ):
        rows = np.array(usage) == word
        expected = TRAIN._replace(images=TRAIN.images[rows], labels=TRAIN.labels[rows])
        same(getattr(found, split), expected)
    (note,) = found.notes
    assert note.startswith("fer2013.csv: emotion is read as labels")


def test_pixels_in_one_column_may_be_in_a_table_for_each_split(tmp_path):
    (tmp_path / "train.csv").write_text(fer2013(TRAIN, names="emotion, pixels"))
    (tmp_path / "val.csv").write_text(fer2013(TEST, names="label,pixels"))
    (tmp_path / "test.csv").write_text("pixels\n1 2 3 4\n")
    found = load_csv(tmp_path)
    same(found.train, TRAIN)
    same(found.validation, TEST)
    assert [each.file for each in found.passed_over] == ["test.csv"]


def test_pixels_in_their_own_columns_may_have_a_column_of_splits(tmp_path):
    usage = np.array(["train", "val"] * 6)
    lines = table().splitlines()
    rows = [f"{line},{word}" for line, word in zip(lines[1:], usage, strict=True)]
    (tmp_path / "all.csv").write_text("\n".join([f"{lines[0]},split", *rows]))
    found = load_csv(tmp_path)
    np.testing.assert_array_equal(found.train.images, TRAIN.images[usage == "train"])
    np.testing.assert_array_equal(found.validation.labels, TRAIN.labels[usage == "val"])


def test_splits_in_files_and_in_a_column_are_refused(tmp_path):
    (tmp_path / "train.csv").write_text(fer2013(TRAIN, ["Training"] * 12))
    (tmp_path / "test.csv").write_text(table(TEST))
    with pytest.raises(DataError, match=r"in the column Usage, found both\. Remove"):
        load_csv(tmp_path)


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
    monkeypatch.setattr("src.sources.csv_rows.BLOCK_BYTES", 1000)
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
    "not square": (
        "label," + ",".join(NAMES[:60]) + "\n",
        "found 60 columns of pixels",
    ),
    "a long label": (f"label,pixel0\n{'a' * 101},3\n", "found 101: 'aaa"),
    "no text": ("label,pixel0\n1,\0", "invalid value"),
    "floats": ("label,pixel0\n1,0.5", "those in .0, 1. by 255 and round them"),
    "floats without names": ("1,0.5\n2,0.5\n" * 4, "by 255 and round"),
    "another split": (fer2013(TRAIN, ["Private"] * 12), "found 'Private'. Correct"),
    "a negative pixel in text": ("emotion,pixels\n1,1 -2 3 4", "invalid|Failed"),
    "text of two sizes": ("emotion,pixels\n1,1\n2,1 2 3 4", "images of 1 to 4 pixels"),
    "text that is no square": ("emotion,pixels\n1,1 2 3", "images of 3 to 3 pixels"),
    "two columns of labels": ("age,gender,pixels\n1,1,3", "such as 'age', 'gender'"),
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
