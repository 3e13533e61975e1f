"""Images that stay on disk: the same rows as numpy's, in little memory."""

import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.examples import Examples, brightness, image_hashes, select
from src.data.lazy_images import ImageWriter, LazyImages, pieces
from src.errors import DataError, StorageError
from src.sources.folder import load_folder
from src.storage.lazy_npz import locate_arrays
from tests.helpers.picture_folders import OPTIONS

SIZES = 7, 50, 1, 42  # images in each file
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (sum(SIZES), 3, 5, 1), dtype=np.uint8)


@pytest.fixture
def stored(tmp_path):
    """`IMAGES` in four files."""
    parts = []
    for number, part in enumerate(np.split(IMAGES, np.cumsum(SIZES)[:-1])):
        path = tmp_path / f"{number}.npz"
        np.savez(path, labels=np.arange(number), images=part)
        parts.append(locate_arrays(path, "Mend it.")["images"])
    return LazyImages(parts)


ROWS = {
    "all": slice(None),
    "some": slice(5, 60),
    "none": slice(9, 3),
    "beyond the end": slice(90, 200),
    "every third, backwards": slice(None, None, -3),
    "any order": RNG.permutation(len(IMAGES)),
    "some twice": RNG.integers(0, len(IMAGES), 500),
    "rising": np.sort(RNG.permutation(len(IMAGES))[:60]),
    "int32": RNG.integers(0, len(IMAGES), 9, dtype=np.int32),
    "uint8": RNG.integers(0, len(IMAGES), 9, dtype=np.uint8),
    "no index": np.zeros(0, np.int64),
    "booleans": RNG.integers(0, 2, len(IMAGES)).astype(bool),
}


@pytest.mark.parametrize("piece", [1, 40, 1 << 24])
@pytest.mark.parametrize("name", ROWS)
def test_rows_match_numpy_indexing(stored, monkeypatch, name, piece):
    monkeypatch.setattr("src.data.lazy_images.PIECE_BYTES", piece)
    found = stored[ROWS[name]]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, IMAGES[ROWS[name]])


@pytest.mark.parametrize("first", ["any order", "rising", "booleans", "some"])
@pytest.mark.parametrize("rows", [slice(3, 30), np.array([20, 0, 7, 7])])
def test_nested_selection_matches_numpy(stored, first, rows):
    chosen = stored.select(ROWS[first])
    expected = IMAGES[ROWS[first]]
    assert (len(chosen), chosen.shape) == (len(expected), expected.shape)
    np.testing.assert_array_equal(chosen[rows], expected[rows])
    np.testing.assert_array_equal(chosen.select(rows)[:], expected[rows])


def test_read_images_are_a_copy(stored):
    stored[:][:] = 0
    np.testing.assert_array_equal(stored[:], IMAGES)


@pytest.mark.parametrize("rows", [[-1], [len(IMAGES)], [3, 2**40]])
def test_row_out_of_range_is_an_error(stored, rows):
    with pytest.raises(IndexError):
        stored[np.array(rows)]
    with pytest.raises(IndexError):
        stored.select(slice(3)).select(np.array([3]))


def test_booleans_of_another_length_are_an_error(stored):
    with pytest.raises(IndexError):
        stored[np.ones(5, bool)]


def test_threads_read_their_own_rows(stored):
    wrong = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(200):
            rows = rng.integers(0, len(IMAGES), 30)
            if not np.array_equal(stored[rows], IMAGES[rows]):
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_file_that_is_truncated_while_open_is_named(stored, tmp_path):
    os.truncate(tmp_path / "3.npz", 900)
    np.testing.assert_array_equal(stored[:50], IMAGES[:50])
    with pytest.raises(
        DataError, match=r"3\.npz: .* truncated while it was read. Mend it\."
    ):
        stored[50:]
    with pytest.raises(
        DataError, match=r"3\.npz: .* truncated while it was read. Mend it\."
    ):
        stored.parts[3].read()


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_file_is_closed_with_the_last_object_that_uses_it(stored, tmp_path):
    before = open_files()
    images = LazyImages([locate_arrays(tmp_path / "0.npz", "")["images"]])
    chosen = images.select(slice(3))
    del images
    assert open_files() == before + 1
    np.testing.assert_array_equal(chosen[:], IMAGES[:3])
    del chosen
    assert open_files() == before


def test_pieces_are_all_images_in_order(stored, monkeypatch):
    monkeypatch.setattr("src.data.lazy_images.PIECE_BYTES", 15 * 8)
    found = list(pieces(stored))
    assert [len(piece) for piece in found] == [8] * 12 + [4]
    np.testing.assert_array_equal(np.concatenate(found), IMAGES)


def test_hashes_distinguish_different_images(stored, monkeypatch):
    monkeypatch.setattr("src.data.lazy_images.PIECE_BYTES", 100)
    assert len(image_hashes(stored)) == len(IMAGES)
    twice = stored.select(np.arange(200) % 70)
    once = np.unique(image_hashes(IMAGES[:70]))
    assert np.unique(image_hashes(twice)).tolist() == once.tolist()
    assert not np.intersect1d(image_hashes(IMAGES[70:]), image_hashes(twice)).size


def test_brightness_is_computed_over_all_pieces(monkeypatch):
    monkeypatch.setattr("src.data.lazy_images.PIECE_BYTES", 15 * 4)
    images = np.clip(IMAGES, 3, 250)
    images[[2, 50, 99]] = 77
    assert brightness(images) == (images.min(), images.max(), 3)


def test_selected_examples_stay_on_disk(stored):
    labels = np.arange(len(IMAGES), dtype=np.int32)
    taken = select(Examples(stored, labels), np.array([4, 90]))
    assert isinstance(taken.images, LazyImages)
    np.testing.assert_array_equal(taken.images[:], IMAGES[[4, 90]])
    assert taken.labels.tolist() == [4, 90]


def fill(writer):
    for start in range(0, len(IMAGES), 9):
        writer.add(IMAGES[start : start + 9])
    return writer.images()


def test_writer_gives_the_same_images_in_memory_and_from_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = fill(ImageWriter((200, 3, 5, 1)))
    assert isinstance(small, np.ndarray)
    monkeypatch.setattr("src.data.lazy_images.MAX_IN_MEMORY", 200 * 15 - 1)
    large = fill(ImageWriter((200, 3, 5, 1)))
    assert isinstance(large, LazyImages)
    np.testing.assert_array_equal(small, IMAGES)
    np.testing.assert_array_equal(large[:], IMAGES)
    assert not list(Path("data/prepared").iterdir()), "the file has a name"


def test_writer_refuses_too_many_images_and_other_shapes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for limit in (0, 1 << 20):
        monkeypatch.setattr("src.data.lazy_images.MAX_IN_MEMORY", limit)
        writer = ImageWriter((10, 3, 5, 1))
        writer.add(IMAGES[:6])
        for wrong in (IMAGES[:5], IMAGES[:1, :2]):
            with pytest.raises(ValueError, match="for the rest of"):
                writer.add(wrong)
        assert len(writer.images()) == 6


def test_full_disk_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("src.data.lazy_images.MAX_IN_MEMORY", 0)
    monkeypatch.setattr(
        "tempfile.TemporaryFile",
        lambda **_: open("/dev/full", "wb", buffering=0),  # noqa: SIM115, PTH123
    )
    writer = ImageWriter((10, 3, 5, 1))
    full = f"data/prepared: {os.strerror(errno.ENOSPC)}. Free some space."
    with writer.file, pytest.raises(StorageError, match=full):
        writer.add(IMAGES[:6])


def test_folder_of_many_images_goes_through_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for index, image in enumerate(IMAGES):
        path = tmp_path / f"mine/train/{'ab'[index % 2]}/{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    small = load_folder(tmp_path / "mine", OPTIONS).train
    monkeypatch.setattr("src.data.lazy_images.MAX_IN_MEMORY", 0)
    large = load_folder(tmp_path / "mine", OPTIONS).train
    assert isinstance(large.images, LazyImages)
    expected = np.concatenate([IMAGES[::2], IMAGES[1::2]])
    np.testing.assert_array_equal(small.images, expected)
    np.testing.assert_array_equal(large.images[:], expected)
    np.testing.assert_array_equal(large.labels, small.labels)
