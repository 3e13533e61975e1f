"""The user's own arrays: files, names, shapes, types and labels."""

import json
import re
import unicodedata

import numpy as np
import pytest

from src import paths
from src.data.examples import Examples
from src.data.lazy_images import LazyImages
from src.data.prepared import check_source
from src.errors import DataError
from src.sources.npz import load_npz
from tests.helpers.examples import patterned

TRAIN, TEST = patterned(12, seed=0), patterned(6, seed=1)
COLOUR = patterned(12, seed=2, shape=(8, 9, 3))
SHADES = COLOUR._replace(images=COLOUR.images | 1)  # no pixel is 0


def save(folder, images, labels=TRAIN.labels, name="train.npz", **others):
    np.savez(folder / name, images=images, labels=labels, **others)


def same(found: Examples, expected: Examples):
    assert found.images.dtype == np.uint8
    assert found.labels.dtype == np.int32
    np.testing.assert_array_equal(found.images[:], expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_arrays_read_in_the_layout_that_prepare_writes(prepared):
    found = load_npz(paths.PREPARED)
    assert found.class_names == ["low", "middle", "high"]
    np.testing.assert_array_equal(found.train.images[:], patterned(100, seed=1).images)
    np.testing.assert_array_equal(found.validation.labels, patterned(30, seed=2).labels)


def test_arrays_without_a_manifest_take_their_numbers_as_names(tmp_path):
    train = patterned(9, seed=0)
    np.savez(tmp_path / "train.npz", **train._asdict())
    found = load_npz(tmp_path)
    assert found.class_names == ["0", "1", "2"]
    assert found.test is None


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int16])
def test_labels_of_any_integer_type_are_accepted(tmp_path, dtype):
    train = patterned(9, seed=0)
    np.savez(tmp_path / "train.npz", images=train.images, labels=dtype(train.labels))
    labels = load_npz(tmp_path).train.labels
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, train.labels)


def test_labels_beyond_int32_do_not_wrap_into_range(tmp_path):
    labels = np.array([0, 2**32 + 1])
    images = np.zeros((2, 1, 1, 1), np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=labels)
    (tmp_path / "manifest.json").write_text('{"class_names": ["a", "b"]}')
    with pytest.raises(DataError, match="expected 0 to 1, found 1 outside"):
        check_source(load_npz(tmp_path))


@pytest.mark.parametrize("names", ["3", '["a", "a"]', "[]", "[1]"])
def test_manifest_with_other_names_is_refused(tmp_path, names):
    np.savez(tmp_path / "train.npz", **patterned(9, seed=0)._asdict())
    (tmp_path / "manifest.json").write_text(f'{{"class_names": {names}}}')
    with pytest.raises(DataError, match="class_names: expected a list of different"):
        load_npz(tmp_path)


def test_archive_of_other_files_is_refused(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "train.npz", "w") as archive:
        archive.writestr("images", b"no array")
        archive.writestr("labels", b"no array")
    with pytest.raises(DataError, match=r"found a file named .images. in it"):
        load_npz(tmp_path)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_file_may_have_any_usual_name(tmp_path, name):
    for file, split in {"train": TRAIN, name: TEST, "test": TRAIN}.items():
        save(tmp_path, *split, f"{file}.npz")
    found = load_npz(tmp_path)
    same(found.validation, TEST)
    same(found.test, TRAIN)
    assert found.passed_over == []


def test_two_validation_files_are_refused(tmp_path):
    for name in ("train", "val", "valid"):
        save(tmp_path, *TRAIN, f"{name}.npz")
    with pytest.raises(DataError, match=r"found val\.npz and valid\.npz\. Remove one"):
        load_npz(tmp_path)


@pytest.mark.parametrize("of", ["the folder", "the file"])
def test_arrays_of_keras_are_read_from_one_file(tmp_path, of):
    names = {"x_train": TRAIN.images[..., 0], "y_train": np.uint8(TRAIN.labels)}
    names |= {"x_test": TEST.images[..., 0], "y_test": np.uint8(TEST.labels)}
    np.savez(tmp_path / "mnist.npz", **names)
    found = load_npz(tmp_path if of == "the folder" else tmp_path / "mnist.npz")
    same(found.train, TRAIN)
    same(found.test, TEST)
    assert found.validation is None
    assert found.class_names == ["0", "1", "2"]
    assert isinstance(found.train.images, LazyImages)


def test_arrays_of_medmnist_are_read_from_one_file(tmp_path):
    arrays = {}
    for name, split in (("train", TRAIN), ("val", TEST), ("test", TRAIN)):
        arrays[f"{name}_images"] = split.images[..., 0]
        arrays[f"{name}_labels"] = np.uint8(split.labels[:, np.newaxis])
    np.savez_compressed(tmp_path / "pneumoniamnist.npz", **arrays)
    found = load_npz(tmp_path)
    for name, split in (("train", TRAIN), ("validation", TEST), ("test", TRAIN)):
        same(getattr(found, name), split)


def test_only_file_of_another_name_is_train(tmp_path):
    save(tmp_path, *TRAIN, "all.npz")
    found = load_npz(tmp_path)
    same(found.train, TRAIN)
    assert found.test is None


def test_file_of_another_name_is_passed_over_next_to_train(tmp_path):
    for name in ("train", "extra"):
        save(tmp_path, *TRAIN, f"{name}.npz")
    (passed,) = load_npz(tmp_path).passed_over
    assert passed == ("extra.npz", "not named like a split")


def test_several_files_without_train_are_listed(tmp_path):
    for name in ("a", "b"):
        save(tmp_path, *TRAIN, f"{name}.npz")
    with pytest.raises(DataError, match=r"train\.npz: expected .*, but a\.npz, b\.npz"):
        load_npz(tmp_path)


def test_all_splits_in_train_next_to_a_test_file_are_refused(tmp_path):
    np.savez(tmp_path / "train.npz", x_train=TRAIN.images, y_train=TRAIN.labels)
    save(tmp_path, *TEST, "test.npz")
    with pytest.raises(DataError, match="found those of train, and files for other"):
        load_npz(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("images",), "found images"),
        (("images", "labels", "x"), "found images, labels, x"),
        (("x_train", "y_train", "x_test"), "found x_test, x_train, y_train"),
        (("x_test", "y_test"), "found x_test, y_test"),
        (("a", "b"), "found a, b"),
        ((), "found none"),
    ],
)
def test_arrays_of_other_names_are_refused(tmp_path, names, message):
    np.savez(tmp_path / "train.npz", **dict.fromkeys(names, np.zeros(3)))
    with pytest.raises(
        DataError, match=rf"train\.npz: expected the arrays images and .*{message}\."
    ):
        load_npz(tmp_path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (TRAIN.images[..., 0], TRAIN.images),
        (TRAIN.images.transpose(0, 3, 1, 2), TRAIN.images),
        (np.ascontiguousarray(COLOUR.images.transpose(0, 3, 1, 2)), COLOUR.images),
        (np.asfortranarray(COLOUR.images), COLOUR.images),
        *((TRAIN.images.astype(dtype), TRAIN.images) for dtype in ("i8", ">u2", "i2")),
        *((COLOUR.images.astype(f"f{size}"), COLOUR.images) for size in (2, 4, 8)),
        *(
            ((COLOUR.images / 255).astype(f"f{size}"), COLOUR.images)
            for size in (2, 4, 8)
        ),
        ((COLOUR.images / np.float32(255)).astype("f8"), COLOUR.images),
        (COLOUR.images.transpose(0, 3, 1, 2) / 255, COLOUR.images),
    ],
    ids=[
        *("without channels", "one channel first", "channels first", "Fortran order"),
        *("int64", "uint16", "int16", "float16 bytes", "float32 bytes"),
        *("float64 bytes", "float16 in [0, 1]", "float32 in [0, 1]"),
        *("float64 in [0, 1]", "float32 in float64", "float64, channels first"),
    ],
)
def test_images_of_other_forms_are_converted_without_loss(
    tmp_path, monkeypatch, given, expected
):
    monkeypatch.setattr("src.data.lazy_images.PIECE_BYTES", 5000)
    save(tmp_path, given)
    same(load_npz(tmp_path).train, Examples(expected, TRAIN.labels))


FIRST = COLOUR.images.transpose(0, 3, 1, 2)
FLOATS = "images are floats in [0, 1], and are multiplied by 255."
RULES = {
    "channels first": (
        FIRST,
        ["images [n, 3, 8, 9] are read as [n, channels, height, width]."],
    ),
    "floats": (COLOUR.images / 255, [FLOATS]),
    "both": (
        FIRST / 255,
        ["images [n, 3, 8, 9] are read as [n, channels, height, width].", FLOATS],
    ),
    "channels at both ends": (
        COLOUR.images[:, :3],
        [
            "images [n, 3, 9, 3] are read as [n, height, width, channels], because the "
            "last dimension is 3."
        ],
    ),
    "nothing": (COLOUR.images, []),
    "whole floats": (COLOUR.images.astype(float), []),
    "no channels": (TRAIN.images[..., 0], []),
    "one pixel": (TRAIN.images[:, :1, :1], []),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_of_conversion_are_said_for_each_split(tmp_path, name):
    images, expected = RULES[name]
    save(tmp_path, COLOUR.images if name == "floats" else images)
    (tmp_path / "shards/test").mkdir(parents=True)
    for file in ("test.npz", "shards/test/00001.npz"):
        save(tmp_path, images, name=file)
    splits = ("test",) if name == "floats" else ("train", "test")
    assert list(load_npz(tmp_path).notes) == [
        f"{split}: {note}" for split in splits for note in expected
    ]


def test_converted_images_may_be_larger_than_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("src.data.lazy_images.MAX_IN_MEMORY", 100)
    monkeypatch.chdir(tmp_path)
    save(tmp_path, COLOUR.images / 255)
    found = load_npz(tmp_path).train
    assert isinstance(found.images, LazyImages)
    same(found, Examples(COLOUR.images, TRAIN.labels))


NOISE = np.random.default_rng(0).random((12, 8, 9, 3))
REFUSED = {
    "floats in [0, 1]": (NOISE, "found float64 from"),
    "floats in [0, 255]": (NOISE * 255, "Round them"),
    "floats in [-1, 1]": (NOISE * 2 - 1, "Round them"),
    "16 bits": (SHADES.images.astype("u2") * 257, "Reduce 16 bits to 8"),
    "12 bits": (SHADES.images.astype("i4") * 16, "Reduce 12 bits to 8"),
    "booleans": (COLOUR.images > 99, "found bool"),
    "a row an image": (TRAIN.images.reshape(12, 64), r"found shape \[12, 64\]"),
    "rows of colours": (COLOUR.images[:, :4, :4].reshape(12, 48), "to -1, 3, 4, 4 if"),
    "four channels": (np.ones((12, 5, 6, 4), np.uint8), "To drop transparency"),
    "four channels first": (np.ones((12, 4, 5, 6), np.uint8), "To drop transparency"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_images_are_accepted_after_the_advice(tmp_path, name):
    images, message = REFUSED[name]
    save(tmp_path, images)
    with pytest.raises(DataError, match=f"images: expected .*{message}") as refused:
        load_npz(tmp_path)
    advice = re.search(r": images = (.*)$", str(refused.value))[1]
    save(tmp_path, eval(advice, {"images": images}))
    check_source(load_npz(tmp_path))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (NOISE * 900, "found float64 from .* Save the pixels from before"),
        (NOISE - np.nan, "found float64 from nan to nan"),
        (np.full((12, 2, 2, 1), -np.inf), "found float64 from -inf to -inf"),
        (np.full((12, 2, 2, 1), np.inf), "found float64 from inf to inf"),
        (NOISE.astype(complex), "expected an npz of plain arrays"),
        (TRAIN.images.astype("i8") - 1, "found int64 from -1 to"),
        (np.ones((12, 6), np.uint8), "images.reshape.-1, height, width, channels"),
        (np.ones((12, 5, 5, 2), np.uint8), "expected 1 or 3 channels"),
        (np.ones((12, 0, 5, 3), np.uint8), "at least one image with pixels"),
        (np.ones((11, 5, 5, 3), np.uint8), "found 11 images and 12 labels"),
        (np.uint8(3), r"found shape \[\]"),
        (np.array([None] * 12), "with Python objects, which can run code"),
    ],
)
def test_images_that_nothing_converts_are_refused(tmp_path, images, message):
    save(tmp_path, images)
    with pytest.raises(DataError, match=rf"train\.npz: .*{message}"):
        load_npz(tmp_path)


ONE_HOT = np.eye(3)[TRAIN.labels]


@pytest.mark.parametrize(
    "labels",
    [ONE_HOT, ONE_HOT.astype(int), ONE_HOT > 0, TRAIN.labels[:, None].astype("u8")],
    ids=["floats", "integers", "booleans", "one column"],
)
def test_labels_of_other_forms_are_read(tmp_path, labels):
    save(tmp_path, TRAIN.images, labels)
    same(load_npz(tmp_path).train, TRAIN)


def test_class_of_a_column_without_examples_is_kept(tmp_path):
    save(tmp_path, TRAIN.images, np.eye(5)[TRAIN.labels])
    assert load_npz(tmp_path).class_names == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("row", [[1, 1, 0], [0, 0, 0], [2, 0, 0], [1, 0.5, 0]])
def test_rows_that_are_not_one_hot_are_accepted_after_the_advice(tmp_path, row):
    labels = ONE_HOT.copy()
    labels[7] = row
    save(tmp_path, TRAIN.images, labels)
    with pytest.raises(DataError, match=r"one 1 in each row, found .*row 7") as refused:
        load_npz(tmp_path)
    advice = re.search(r": labels = (.*)$", str(refused.value))[1]
    save(tmp_path, TRAIN.images, eval(advice, {"labels": labels}))
    check_source(load_npz(tmp_path))


def test_labels_in_floats_are_accepted_after_the_advice(tmp_path):
    labels = TRAIN.labels.astype(float)
    save(tmp_path, TRAIN.images, labels)
    with pytest.raises(DataError, match=r"found float64 \[12\]") as refused:
        load_npz(tmp_path)
    advice = re.search(r": labels = (.*)$", str(refused.value))[1]
    save(tmp_path, TRAIN.images, eval(advice, {"labels": labels}))
    same(load_npz(tmp_path).train, TRAIN)


@pytest.mark.parametrize(
    "labels", [TRAIN.labels / 2, np.zeros((12, 2, 2), int), np.array(3)]
)
def test_labels_that_are_no_classes_are_refused(tmp_path, labels):
    save(tmp_path, TRAIN.images, labels)
    with pytest.raises(DataError, match="labels: expected integers with 1 dimension"):
        load_npz(tmp_path)


@pytest.mark.parametrize(
    "numbers", [[1, 2, 3], [0, 2, 7], [-1, 0, 1], [5, 6, 2_000_000_000]]
)
def test_distinct_labels_without_names_are_the_classes(tmp_path, numbers):
    save(tmp_path, TRAIN.images, np.array(numbers)[TRAIN.labels])
    found = load_npz(tmp_path)
    same(found.train, TRAIN)
    assert found.class_names == [str(number) for number in numbers]


def test_labels_from_1_to_the_number_of_names_begin_at_the_first_name(tmp_path):
    save(tmp_path, TRAIN.images, TRAIN.labels + 1)
    (tmp_path / "manifest.json").write_text('{"class_names": ["a", "b", "c"]}')
    found = load_npz(tmp_path)
    same(found.train, TRAIN)
    assert found.class_names == ["a", "b", "c"]


def test_labels_from_1_below_the_number_of_names_begin_at_the_second(tmp_path):
    save(tmp_path, TRAIN.images, TRAIN.labels + 1)
    (tmp_path / "manifest.json").write_text('{"class_names": ["a", "b", "c", "d"]}')
    np.testing.assert_array_equal(load_npz(tmp_path).train.labels, TRAIN.labels + 1)


def test_test_label_that_train_lacks_is_named(tmp_path):
    save(tmp_path, *TRAIN)
    save(tmp_path, TEST.images, TEST.labels + 1, "test.npz")
    message = r"test\.npz: labels: expected one of the 3 classes in .*0, 1, 2.*first 3"
    with pytest.raises(DataError, match=message):
        load_npz(tmp_path)


@pytest.mark.parametrize("key", ["class_names", "label_names"])
@pytest.mark.parametrize("kind", ["U", "S"])
def test_class_names_may_be_an_array_in_the_file(tmp_path, key, kind):
    names = ["ankle boot", "b\N{LATIN SMALL LETTER A WITH DIAERESIS}r", "coat"]
    array = np.array(names) if kind == "U" else np.array([n.encode() for n in names])
    save(tmp_path, *TRAIN, **{key: array})
    assert load_npz(tmp_path).class_names == names


def test_class_names_and_labels_are_compared_after_normalisation(tmp_path):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    save(tmp_path, TRAIN.images, np.array([composed, "tea"] * 6))
    names = json.dumps({"class_names": [apart, "tea"]})
    (tmp_path / "manifest.json").write_text(names)
    found = load_npz(tmp_path)
    assert found.class_names == [composed, "tea"]
    assert found.train.labels.tolist() == [0, 1] * 6


@pytest.mark.parametrize(
    "names", [["a", "a", "b"], [b"\xff", b"a", b"b"], [[1, 2]], [1, 2, 3]]
)
def test_array_that_is_no_list_of_names_is_refused(tmp_path, names):
    save(tmp_path, *TRAIN, class_names=np.array(names))
    with pytest.raises(DataError, match=r"train\.npz: .*expected"):
        load_npz(tmp_path)


def test_labels_of_text_are_classes_in_alphabetical_order(tmp_path):
    names = ["cat", "dog", "zebra"]
    save(tmp_path, TRAIN.images, np.array(names)[TRAIN.labels])
    save(tmp_path, TEST.images, np.array(names)[TEST.labels], "test.npz")
    found = load_npz(tmp_path)
    assert found.class_names == names
    same(found.train, TRAIN)
    same(found.test, TEST)


def test_two_spellings_of_one_letter_are_one_class(tmp_path):
    spellings = ["caf\u00e9", "cafe\u0301"]
    for name, text in zip(("train", "test"), spellings, strict=True):
        labels = np.array(["bar", text])[np.arange(12) % 2]
        save(tmp_path, TRAIN.images, labels, f"{name}.npz")
    found = load_npz(tmp_path)
    assert found.class_names == ["bar", spellings[0]]
    np.testing.assert_array_equal(found.test.labels, np.arange(12) % 2)


def test_text_with_impossible_letters_is_refused(tmp_path):
    save(tmp_path, TRAIN.images, np.full(12, 0x7FFFFFFF, "<u4").view("<U1"))
    with pytest.raises(DataError, match=r"train\.npz: expected text"):
        load_npz(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((name, b"never read") for name in ("data.pkl", "data.pickle", "train.pt")),
        ("mnist.pkl.gz", b"\x1f\x8b"),
        ("data_batch_1", b"\x80\x02}q\x01"),
        ("train.npz", b"\x80\x04\x95"),
    ],
)
def test_pickle_is_refused_with_what_to_do_instead(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: .* found a pickle") as refused:
        load_npz(tmp_path)
    advice = re.search(r"arrays: numpy\.(.*)$", str(refused.value))[1]
    eval(f"numpy.{advice}", {"numpy": np, **TRAIN._asdict()})
    same(load_npz(tmp_path).train, TRAIN)


def test_pickle_that_is_named_itself_is_refused_with_what_to_do_instead(tmp_path):
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\x80\x02}q\x01")
    with pytest.raises(DataError, match="found a pickle") as refused:
        load_npz(path)
    advice = re.search(r"arrays: numpy\.(.*)$", str(refused.value))[1]
    eval(f"numpy.{advice}", {"numpy": np, **TRAIN._asdict()})
    same(load_npz(tmp_path).train, TRAIN)


def test_npy_files_are_refused_with_what_to_do_instead(tmp_path):
    np.save(tmp_path / "images.npy", TRAIN.images)
    with pytest.raises(DataError, match=r"but images\.npy\. Put .*numpy\.savez"):
        load_npz(tmp_path)
