"""Data sets of Hugging Face in parquet files: a column of pictures, one of labels."""

import hashlib
import io
import json

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from src.data.lazy_images import LazyImages
from src.data.pictures import PicturePolicy, read_pixels
from src.data.prepared import check_source
from src.errors import BrokenFilesError, DataError
from src.sources.parquet import load_parquet
from src.sources.read_pictures import PictureOptions
from tests.helpers.examples import patterned

OPTIONS = PictureOptions(None, "pad", "auto", "white", "stop")
TRAIN, TEST = patterned(12, seed=0), patterned(6, seed=1)
COLOUR = patterned(6, seed=2, shape=(8, 9, 3))
ONE = "train-00000-of-00001.parquet"


def packed(pixels, kind="PNG", **options):
    """The content of a picture file."""
    array = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def column(contents, names=None):
    """Pictures as Hugging Face stores them."""
    names = names or [f"{number}.png" for number in range(len(contents))]
    rows = [
        {"bytes": content, "path": name}
        for content, name in zip(contents, names, strict=True)
    ]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    return pyarrow.array(rows, kind)


def save(path, contents, labels, *, classes=None, image="image", label="label", **more):
    """Writes a parquet file; pictures are in groups of five rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = contents if isinstance(contents, pyarrow.Array) else column(contents)
    columns = {image: pictures}
    if labels is not None:
        columns[label] = pyarrow.array(labels)
    table = pyarrow.table(columns | more)
    if classes is not None:
        features = {
            image: {"_type": "Image"},
            label: {"_type": "ClassLabel", "names": classes},
        }
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    parquet.write_table(table, path, row_group_size=5)


def save_split(path, split, **options):
    save(path, list(map(packed, split.images)), split.labels.tolist(), **options)


def same(found, expected):
    assert found.images.dtype == np.uint8
    assert found.labels.dtype == np.int32
    np.testing.assert_array_equal(found.images[:], expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)


@pytest.mark.parametrize("home", ["", "data"])
@pytest.mark.parametrize("name", ["{}-00000-of-00001", "{}", "{}-0-1a2b3c", "{}/0000"])
def test_files_of_hugging_face_are_splits(tmp_path, home, name):
    splits = {"train": TRAIN, "validation": TEST, "test": TEST}
    for word, split in splits.items():
        path = tmp_path / home / f"{name.format(word)}.parquet"
        save_split(path, split, classes=["a", "b", "c"])
    found = load_parquet(tmp_path, OPTIONS)
    for word, split in splits.items():
        same(getattr(found, word), split)
    assert found.class_names == ["a", "b", "c"]
    assert found.passed_over == []
    assert found.pictures == PicturePolicy((8, 8), "pad", 1, "white")


def test_origins_have_the_path_digest_and_size_of_each_picture(tmp_path):
    contents = [packed(pixels) for pixels in COLOUR.images]
    names = [f"cats/{number}.png" for number in range(6)]
    save(tmp_path / ONE, column(contents, names), [0, 1, 0, 1, 0, 1])
    origins = load_parquet(tmp_path, OPTIONS).origins["train"]
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    assert [(each.file, each.digest) for each in origins] == list(
        zip(names, digests, strict=True)
    )
    assert {(each.group, each.width, each.height) for each in origins} == {("", 9, 8)}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_turned_picture_has_the_size_that_viewers_show(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    contents = [packed(np.zeros((5, 9, 3), np.uint8), kind, exif=exif)] * 2
    save(tmp_path / ONE, contents, [0, 1])
    found = load_parquet(tmp_path, OPTIONS)
    assert found.train.images.shape == (2, 9, 5, 1)
    (origin, _) = found.origins["train"]
    assert (origin.width, origin.height) == (5, 9)


def test_rows_of_several_files_are_in_order(tmp_path):
    for number, rows in enumerate((slice(0, 7), slice(7, 12))):
        part = type(TRAIN)(TRAIN.images[rows], TRAIN.labels[rows])
        save_split(tmp_path / f"train-{number:05}-of-00002.parquet", part)
    same(load_parquet(tmp_path, OPTIONS).train, TRAIN)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("word", ["train", "flowers"])
def test_missing_file_of_several_is_refused(tmp_path, word, number):
    save_split(tmp_path / f"{word}-{number:05}-of-00002.parquet", TRAIN)
    with pytest.raises(DataError, match="expected all of 00000 to 00001 of a split"):
        load_parquet(tmp_path, OPTIONS)


def test_file_of_any_name_may_be_named_itself(tmp_path):
    save_split(tmp_path / "0000.parquet", TRAIN)
    same(load_parquet(tmp_path / "0000.parquet", OPTIONS).train, TRAIN)


def test_files_of_one_split_in_two_folders_are_refused(tmp_path):
    for home in (tmp_path, tmp_path / "data"):
        save_split(home / "train.parquet", TRAIN)
    with pytest.raises(DataError, match="once and in one folder, found"):
        load_parquet(tmp_path, OPTIONS)


def test_pictures_may_be_plain_bytes_and_labels_text(tmp_path):
    names = np.array(["cat", "dog", "owl"])
    contents = pyarrow.array([packed(pixels) for pixels in TRAIN.images])
    labels = names[TRAIN.labels].tolist()
    save(tmp_path / ONE, contents, labels, image="img", label="target")
    found = load_parquet(tmp_path, OPTIONS)
    same(found.train, TRAIN)
    assert found.class_names == names.tolist()
    assert [each.file for each in found.origins["train"]] == [
        f"{ONE} row {number}" for number in range(12)
    ]


def test_columns_with_the_usual_names_are_read_and_the_choice_is_said(tmp_path):
    others = {"thumbnail": pyarrow.array([b"no picture"] * 12)}
    others |= {"class": pyarrow.array(range(12)), "id": pyarrow.array(range(12))}
    save_split(tmp_path / ONE, TRAIN, **others)
    found = load_parquet(tmp_path, OPTIONS)
    same(found.train, TRAIN)
    assert found.notes == [
        "train: image is read as pictures, not thumbnail.",
        "train: label is read as labels, not class.",
    ]


def test_only_class_label_is_the_label_whatever_its_name(tmp_path):
    save_split(tmp_path / ONE, TRAIN, label="fine", classes=["a", "b", "c"])
    assert load_parquet(tmp_path, OPTIONS).class_names == ["a", "b", "c"]


@pytest.mark.parametrize("labels", [[-1] * 6, None, [None] * 6])
def test_test_split_without_labels_is_passed_over(tmp_path, labels):
    save_split(tmp_path / ONE, TRAIN, classes=["a", "b", "c"])
    values = None if labels is None else pyarrow.array(labels, pyarrow.int64())
    save(tmp_path / "test.parquet", list(map(packed, TEST.images)), values)
    found = load_parquet(tmp_path, OPTIONS)
    assert found.test is None
    assert found.passed_over == [("test.parquet", "no labels, so it cannot be scored")]


def test_file_of_no_split_is_passed_over(tmp_path):
    save_split(tmp_path / ONE, TRAIN)
    save_split(tmp_path / "unsupervised-00000-of-00001.parquet", TRAIN)
    (passed,) = load_parquet(tmp_path, OPTIONS).passed_over
    assert passed.file.startswith("unsupervised")


@pytest.mark.parametrize("size", [6, (5, 7)])
@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("channels", ["auto", "rgb", "grey"])
def test_pixels_follow_the_parameters_as_predict_does(tmp_path, size, fit, channels):
    contents = [packed(COLOUR.images[0], "JPEG", quality=90), packed(COLOUR.images[1])]
    contents.append(packed(np.full((20, 11, 4), 90, np.uint8)))
    save(tmp_path / ONE, contents, [0, 1, 1])
    options = OPTIONS._replace(
        size=size, fit=fit, channels=channels, background="black"
    )
    found = load_parquet(tmp_path, options)
    height, width = (size, size) if size == 6 else size
    policy = PicturePolicy(
        (height, width), fit, 1 if channels == "grey" else 3, "black"
    )
    assert found.pictures == policy
    for pixels, content in zip(found.train.images, contents, strict=True):
        np.testing.assert_array_equal(pixels, read_pixels(content, policy))


def test_pictures_without_colours_become_grey(tmp_path):
    grey = TRAIN.images.repeat(3, axis=3)
    save(tmp_path / ONE, list(map(packed, grey)), TRAIN.labels.tolist())
    found = load_parquet(tmp_path, OPTIONS)
    assert found.pictures.channels == 1
    same(found.train, TRAIN)


def test_sizes_that_differ_are_accepted_after_the_advice(tmp_path):
    contents = [packed(np.zeros((5, side, 1), np.uint8)) for side in (7, 7, 9)]
    save(tmp_path / ONE, contents, [0, 1, 0])
    with pytest.raises(
        DataError,
        match=r"row 2 2\.png: .* one size, 7 x 5 .* row 0 .*found 9 x 5, .*: 6 in",
    ):
        load_parquet(tmp_path, OPTIONS)
    found = load_parquet(tmp_path, OPTIONS._replace(size=6))
    assert found.train.images.shape == (3, 6, 6, 1)


@pytest.fixture
def broken(tmp_path):
    """A file of twelve pictures; two are broken."""
    contents = [packed(pixels) for pixels in TRAIN.images]
    contents[3], contents[8] = b"no picture", contents[8][:50]
    save(tmp_path / ONE, contents, TRAIN.labels.tolist(), classes=["a", "b", "c"])
    return tmp_path


def test_broken_pictures_are_all_counted_and_named(broken):
    with pytest.raises(BrokenFilesError, match=r"12 pictures .* 2 broken") as refused:
        load_parquet(broken, OPTIONS)
    assert [line.split(": broken: ")[0] for line in refused.value.lines] == [
        f"{ONE} row 3 3.png",
        f"{ONE} row 8 8.png",
    ]


def test_one_broken_picture_is_named_by_file_and_row(tmp_path):
    contents = [packed(TRAIN.images[0]), b"no picture"]
    save(tmp_path / "data" / ONE, pyarrow.array(contents), [0, 1])
    place = tmp_path / "data" / ONE
    with pytest.raises(BrokenFilesError, match=f"^{place} row 1: expected PNG, .* it,"):
        load_parquet(tmp_path, OPTIONS)


def test_broken_pictures_are_left_out_after_the_advice(broken):
    found = load_parquet(broken, OPTIONS._replace(on_broken="skip"))
    rows = np.delete(np.arange(12), [3, 8])
    same(found.train, type(TRAIN)(TRAIN.images[rows], TRAIN.labels[rows]))
    assert len(found.origins["train"]) == 10
    assert [each.file for each in found.passed_over] == [
        f"{ONE} row 3 3.png",
        f"{ONE} row 8 8.png",
    ]
    assert all(each.reason.startswith("broken: ") for each in found.passed_over)


def test_pictures_of_which_only_the_path_is_stored_are_refused(tmp_path):
    save(tmp_path / ONE, column([None, None]), [0, 1])
    with pytest.raises(BrokenFilesError, match="A split would be empty") as refused:
        load_parquet(tmp_path, OPTIONS._replace(on_broken="skip"))
    assert refused.value.lines[0] == f"{ONE} row 0 0.png: broken: only a path, 0.png"


def test_huge_pictures_of_one_size_are_refused(tmp_path):
    buffer = io.BytesIO()
    Image.new("1", (4097, 4096)).save(buffer, "PNG")
    save(tmp_path / ONE, [buffer.getvalue()] * 2, [0, 1])
    with pytest.raises(DataError, match=r"found 4097 x 4096\. Set image_size: 224"):
        load_parquet(tmp_path, OPTIONS)


def test_images_may_be_larger_than_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("src.data.lazy_images.MAX_IN_MEMORY", 100)
    monkeypatch.chdir(tmp_path)
    save_split(tmp_path / "mine" / ONE, TRAIN)
    found = load_parquet(tmp_path / "mine", OPTIONS)
    assert isinstance(found.train.images, LazyImages)
    same(found.train, TRAIN)


def two_labels(path):
    save_split(path, TRAIN, **{"class": pyarrow.array(range(12))}, label="y")


def two_pictures(path):
    first = [packed(pixels) for pixels in TRAIN.images]
    save_split(path, TRAIN, image="front", back=column(first))


def no_pictures(path):
    save(path, pyarrow.array([1, 2]), [0, 1])


def cut_short(path):
    save_split(path, TRAIN)
    path.write_bytes(path.read_bytes()[:-50])


def flipped(path):
    save_split(path, TRAIN)
    content = path.read_bytes()
    path.write_bytes(content[:500] + bytes(700) + content[1200:])


def bomb(path):
    zeros = pyarrow.array([bytes(50_000_000), b""])
    columns = {"image": zeros, "label": pyarrow.array([0, 1])}
    parquet.write_table(
        pyarrow.table(columns), path, compression="zstd", use_dictionary=False
    )


WRONG = {
    "two labels": (two_labels, "one column of labels, named label, found the columns"),
    "two pictures": (two_pictures, "one column of pictures, named image, found"),
    "no pictures": (no_pictures, "one column of pictures, named image, found"),
    "no labels": (
        lambda path: save(path, [packed(TRAIN.images[0])], None),
        "one column of labels, named label, found none",
    ),
    "several labels": (
        lambda path: save(path, [packed(TRAIN.images[0])], [[0, 1]]),
        "in the column label, found list.* Write one integer or text for each picture",
    ),
    "a label is missing": (
        lambda path: save(path, [packed(TRAIN.images[0])] * 2, [0, None]),
        "expected a label in .* row 1",
    ),
    "a label is hidden": (
        lambda path: save(
            path, [packed(TRAIN.images[0])] * 2, [0, -1], classes=["a", "b"]
        ),
        "labels: expected 0 to 1, found 1 outside, the first -1 at index 1",
    ),
    "cut short": (cut_short, "expected a parquet file of pictures"),
    "flipped": (flipped, "expected"),
    "empty": (lambda path: path.write_bytes(b""), "expected a parquet file"),
    "text": (lambda path: path.write_bytes(b"a,b\n" * 99), "expected a parquet file"),
    "no rows": (lambda path: save(path, [], pyarrow.array([], "i8")), "found none"),
    "a bomb": (bomb, "bytes that claim to hold 500"),
    "a folder": (lambda path: path.mkdir(), "expected a file, found none"),
}


@pytest.mark.parametrize("name", WRONG)
def test_malformed_file_is_refused(tmp_path, name):
    write, message = WRONG[name]
    write(tmp_path / ONE)
    with pytest.raises(DataError, match=message) as refused:
        check_source(load_parquet(tmp_path, OPTIONS))
    assert "\n" not in str(refused.value)


def test_other_class_names_in_another_split_are_refused(tmp_path):
    save_split(tmp_path / ONE, TRAIN, classes=["a", "b", "c"])
    save_split(tmp_path / "test.parquet", TEST, classes=["b", "a", "c"])
    with pytest.raises(DataError, match=r"test\.parquet: expected the class names of"):
        load_parquet(tmp_path, OPTIONS)


@pytest.mark.parametrize("info", [b"{", b"[]", b'{"info": 3}', b"[" * 100_000])
def test_description_that_is_damaged_is_ignored(tmp_path, info):
    columns = {"image": column([packed(TRAIN.images[0])] * 2), "label": [0, 1]}
    table = pyarrow.table(columns).replace_schema_metadata({"huggingface": info})
    parquet.write_table(table, tmp_path / ONE)
    assert load_parquet(tmp_path, OPTIONS).class_names == ["0", "1"]


def test_folder_without_files_of_train_is_refused(tmp_path):
    with pytest.raises(DataError, match="found no parquet file"):
        load_parquet(tmp_path, OPTIONS)
    for name in ("0000", "0001"):
        save_split(tmp_path / f"{name}.parquet", TRAIN)
    shown = r"found 0000\.parquet, 0001\.parquet\. Put train-00000"
    with pytest.raises(DataError, match=shown):
        load_parquet(tmp_path, OPTIONS)


@pytest.mark.parametrize("home", ["", "data"])
def test_only_file_of_another_name_is_train(tmp_path, home):
    save_split(tmp_path / home / "flowers.parquet", TRAIN)
    found = load_parquet(tmp_path, OPTIONS)
    same(found.train, TRAIN)
    assert found.passed_over == []


def test_labels_in_floats_are_accepted_after_the_advice(tmp_path):
    contents = list(map(packed, TRAIN.images))
    table = {"label": TRAIN.labels.astype(float)}
    save(tmp_path / ONE, contents, table["label"])
    with pytest.raises(DataError, match="column label, found double") as refused:
        load_parquet(tmp_path, OPTIONS)
    exec(str(refused.value).split("integers: ")[1], {"table": table})
    save(tmp_path / ONE, contents, table["label"])
    same(load_parquet(tmp_path, OPTIONS).train, TRAIN)
