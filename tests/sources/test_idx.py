"""MNIST's own format: four files of bytes, each with a header, gzipped or not."""

import gzip
import struct

import numpy as np
import pytest

from src.data.lazy_images import LazyImages
from src.errors import DataError
from src.sources.idx import load_idx
from tests.helpers.archives import MANUAL, has_archives, idx
from tests.helpers.examples import patterned

TRAIN, TEST = patterned(12, seed=0), patterned(6, seed=1)
IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"


def packed(array: np.ndarray, *shape: int) -> bytes:
    """The bytes of an idx file; a header of another shape may be given."""
    shape = shape or array.shape
    header = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)
    return header + array.astype(np.uint8).tobytes()


def save(folder, prefix="train", split=TRAIN, mark="-", pack=False):
    """Writes the two files of a split."""
    folder.mkdir(exist_ok=True)
    for kind, array in (
        ("images-idx3", split.images[..., 0]),
        ("labels-idx1", split.labels),
    ):
        name = f"{prefix}-{kind}-ubyte".replace("-idx", f"{mark}idx")
        content = packed(array)
        if pack:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / name).write_bytes(content)


def same(found, expected):
    assert found.labels.dtype == np.int32
    np.testing.assert_array_equal(found.images[:], expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("prefix", ["t10k", "test"])
def test_four_files_are_two_splits(tmp_path, pack, mark, prefix):
    save(tmp_path, "train", TRAIN, mark, pack)
    save(tmp_path, prefix, TEST, mark, pack)
    found = load_idx(tmp_path)
    same(found.train, TRAIN)
    same(found.test, TEST)
    assert found.validation is None
    assert found.class_names == ["0", "1", "2"]
    assert isinstance(found.train.images, LazyImages) is not pack


def test_packed_file_next_to_its_unpacked_one_is_passed_over(tmp_path):
    for pack in (False, True):
        save(tmp_path, pack=pack)
    found = load_idx(tmp_path)
    same(found.train, TRAIN)
    assert found.test is None
    assert [each.file for each in found.passed_over] == [f"{IMAGES}.gz", f"{LABELS}.gz"]


def test_folder_of_the_name_of_a_file_is_not_taken_for_it(tmp_path):
    save(tmp_path, mark=".")
    (tmp_path / IMAGES).mkdir()
    same(load_idx(tmp_path).train, TRAIN)


def test_packed_images_may_be_larger_than_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("src.data.lazy_images.MAX_IN_MEMORY", 100)
    monkeypatch.setattr("src.sources.idx.CHUNK_BYTES", 200)
    monkeypatch.chdir(tmp_path)
    save(tmp_path, pack=True)
    found = load_idx(tmp_path)
    assert isinstance(found.train.images, LazyImages)
    same(found.train, TRAIN)


@has_archives
def test_archives_of_fashion_mnist_are_read():
    found = load_idx(MANUAL)
    for prefix, split in (("train", found.train), ("t10k", found.test)):
        pixels = idx(f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
        np.testing.assert_array_equal(split.images[:], pixels)
        labels = idx(f"{prefix}-labels-idx1-ubyte.gz", 8)
        np.testing.assert_array_equal(split.labels, labels)
    assert found.class_names == [str(number) for number in range(10)]


PIXELS = TRAIN.images[..., 0]
GOOD = packed(PIXELS)
BROKEN = {
    "empty": (b"", "a header of b''"),
    "another type": (b"\0\0\x0d\3" + GOOD[4:], "a header of"),
    "another rank": (packed(TRAIN.labels), "a header of"),
    "cut short": (GOOD[:-1], "767 bytes for the shape"),
    "too long": (GOOD + b"1", "769 bytes for the shape"),
    "a header alone": (GOOD[:9], "a header of"),
    "a size of 0": (packed(PIXELS, 0, 8, 8), "the shape"),
    "a claim of 8 GiB": (packed(PIXELS, 2**13, 2**10, 2**10), "768 bytes for the"),
    "an endless claim": (packed(PIXELS, *[2**32 - 1] * 3), "768 bytes for the shape"),
    "packed, another type": (gzip.compress(b"\0\0\x0d\3" + GOOD[4:]), "a header of"),
    "packed, cut short": (gzip.compress(GOOD[:-1]), "fewer bytes"),
    "packed, too long": (gzip.compress(GOOD + b"1"), "more bytes"),
    "an archive cut short": (gzip.compress(GOOD)[:-9], "end-of-stream"),
    "an archive with a wrong checksum": (
        gzip.compress(GOOD)[:-8] + bytes(8),
        "CRC check failed",
    ),
    "a packed claim of 8 GiB": (
        gzip.compress(packed(PIXELS, 2**13, 2**10, 2**10)),
        "claim to hold 8589934592",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_malformed_file_is_refused(tmp_path, name):
    content, message = BROKEN[name]
    save(tmp_path)
    (tmp_path / IMAGES).write_bytes(content)
    with pytest.raises(DataError, match=rf"{IMAGES}: expected an idx.*{message}"):
        load_idx(tmp_path)


def test_content_far_larger_than_its_header_is_not_unpacked(tmp_path, monkeypatch):
    """A bomb: 64 MiB of zeros after a header that claims 768 bytes."""
    read = []
    original = gzip.GzipFile.read
    monkeypatch.setattr(
        "gzip.GzipFile.read",
        lambda file, size=-1: read.append(size) or original(file, size),
    )
    save(tmp_path)
    bomb = gzip.compress(GOOD + bytes(64 << 20), compresslevel=1)
    (tmp_path / IMAGES).write_bytes(bomb)
    with pytest.raises(DataError, match="more bytes than for the shape"):
        load_idx(tmp_path)
    assert sum(read) < 1000
    assert min(read) > 0


def test_images_and_labels_of_different_lengths_are_refused(tmp_path):
    save(tmp_path)
    (tmp_path / LABELS).write_bytes(packed(TRAIN.labels[:-1]))
    with pytest.raises(DataError, match="found 12 images and 11 labels"):
        load_idx(tmp_path)


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_missing_half_of_a_pair_is_named(tmp_path, name):
    save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"expected {IMAGES} and {LABELS}.*found train"):
        load_idx(tmp_path)


def test_folder_without_files_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected train-images.* found neither\. Put"):
        load_idx(tmp_path)


def test_link_out_of_the_project_is_refused(tmp_path):
    save(tmp_path / "mine")
    save(tmp_path)
    (tmp_path / "mine" / IMAGES).unlink()
    (tmp_path / "mine" / IMAGES).symlink_to(tmp_path / IMAGES)
    with pytest.raises(DataError, match="found a link to a file outside"):
        load_idx(tmp_path / "mine")
