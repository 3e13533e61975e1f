"""Splits in several files: writing, reading, and refusing changed files."""

import io
import json
import os

import numpy as np
import pytest

from src import paths
from src.data.examples import Source
from src.data.lazy_images import LazyImages
from src.data.prepared import (
    Manifest,
    check_source,
    load_manifest,
    load_split,
    open_split,
    save_prepared,
    split_source,
)
from src.data.shards import shard_name
from src.errors import DataError
from src.sources.npz import load_npz
from src.storage.reading import digest
from tests.helpers.examples import patterned
from tests.helpers.files import committed
from tests.helpers.imports import ROOT
from tests.helpers.running import exit_code, prepare_measured

SPLITS = {
    "train": patterned(100, seed=1),
    "validation": patterned(30, seed=2),
    "test": patterned(37, seed=3),
}
NAMES = ["low", "middle", "high"]
SOURCE = Source("stripes", "1", NAMES, *SPLITS.values())


@pytest.fixture
def sharded(prepared, monkeypatch):
    """The `prepared` folder, with at most 30 images of 64 pixels in a file."""
    monkeypatch.setattr("src.data.prepared.SHARD_BYTES", 30 * 64 + 63)
    committed(save_prepared, SOURCE, SPLITS)
    return prepared


def shards():
    found = paths.SHARDS.glob("*/*.npz")
    return sorted(str(path.relative_to(paths.SHARDS)) for path in found)


def contents():
    found = paths.SHARDS.glob("*/*")
    return {path: path.read_bytes() for path in found}


TRAIN = [f"train/{number:05}.npz" for number in (1, 2, 3)]


def test_small_split_matches_the_file_of_numpy_savez(prepared):
    for name, split in SPLITS.items():
        expected = io.BytesIO()
        np.savez(expected, images=split.images, labels=split.labels)
        path = paths.PREPARED / f"{name}.npz"
        assert path.read_bytes() == expected.getvalue()
        manifest = load_manifest()
        assert manifest.digest(name) == digest(expected.getvalue())
    assert "shards" not in json.loads(paths.MANIFEST.read_text())
    for name in SPLITS:
        assert [path.name for path in (paths.SHARDS / name).iterdir()] == ["about.txt"]


def test_large_split_continues_in_shards(sharded):
    assert shards() == ["test/00001.npz", *TRAIN]
    sizes = []
    for number in range(4):
        with np.load(paths.PREPARED / shard_name("train", number)) as arrays:
            sizes.append(len(arrays["images"]))
    assert sizes == [30, 30, 30, 10]
    listed = json.loads(paths.MANIFEST.read_text())["shards"]
    assert {name: list(files) for name, files in listed.items()} == {
        "test": ["shards/test/00001.npz"],
        "train": [f"shards/{name}" for name in TRAIN],
    }
    for files in listed.values():
        for name, sha256 in files.items():
            assert digest((paths.PREPARED / name).read_bytes()) == sha256


@pytest.mark.parametrize("name", SPLITS)
def test_split_in_shards_is_read_back_unchanged(sharded, name):
    expected, manifest = SPLITS[name], load_manifest()
    opened, loaded = open_split(name, manifest), load_split(name, manifest)
    assert isinstance(opened.images, LazyImages)
    assert isinstance(loaded.images, np.ndarray)
    for split in (opened, loaded):
        assert split.labels.dtype == np.int32
        np.testing.assert_array_equal(split.images[:], expected.images)
        np.testing.assert_array_equal(split.labels, expected.labels)
    rows = np.random.default_rng(0).integers(0, len(expected.labels), 50)
    np.testing.assert_array_equal(opened.images[rows], expected.images[rows])


def test_prepared_arrays_may_be_prepared_again(sharded, write_params, monkeypatch):
    """With shards of another size: the same images in the same order."""
    (sharded / "data/prepared").rename(sharded / "mine")
    write_params(dataset="npz", data_path="mine")
    monkeypatch.setattr("src.data.prepared.SHARD_BYTES", 7 * 64)
    assert exit_code("prepare", monkeypatch) == 0
    assert load_manifest().class_names == NAMES
    assert len(load_manifest().shards["train"]) == 14
    for name, expected in SPLITS.items():
        found = load_split(name, load_manifest())
        np.testing.assert_array_equal(found.images, expected.images)
        np.testing.assert_array_equal(found.labels, expected.labels)


def test_splits_from_shards_match_splits_from_memory(sharded):
    for name in ("validation", "test"):
        (paths.PREPARED / f"{name}.npz").unlink()
    (paths.SHARDS / "test/00001.npz").unlink()
    stored = load_npz(paths.PREPARED)
    check_source(stored)
    expected = split_source(
        Source("s", "1", NAMES, SPLITS["train"], None, None), 0.2, 5
    )
    for name, split in split_source(stored, 0.2, 5).items():
        assert isinstance(split.images, LazyImages)
        np.testing.assert_array_equal(split.images[:], expected[name].images)
        np.testing.assert_array_equal(split.labels, expected[name].labels)


def test_manifest_does_not_depend_on_the_size_of_shards(sharded, monkeypatch):
    content = json.loads(paths.MANIFEST.read_text())
    monkeypatch.setattr("src.data.prepared.SHARD_BYTES", 1 << 27)
    monkeypatch.setattr("src.data.lazy_images.PIECE_BYTES", 200)
    stored = load_npz(paths.PREPARED)
    manifest = committed(save_prepared, stored, split_source(stored, 0.5, 0))
    for key in ("counts", "in_both", "image_shape", "class_names"):
        assert manifest[key] == content[key]


def test_smaller_data_removes_the_shards_of_larger_data(
    sharded, write_params, monkeypatch
):
    write_params(data_path=ROOT / "data/raw")
    monkeypatch.setattr("src.data.prepared.SHARD_BYTES", 700 * 64)
    assert exit_code("prepare", monkeypatch) == 0
    assert shards() == ["train/00001.npz"]
    assert len(load_split("train", load_manifest()).labels) == 1299
    monkeypatch.setattr("src.data.prepared.SHARD_BYTES", 1 << 27)
    assert exit_code("prepare", monkeypatch) == 0
    assert shards() == []
    assert len(load_split("train", load_manifest()).labels) == 1299


def test_failed_prepare_leaves_all_shards_unchanged(sharded, write_params, monkeypatch):
    (paths.SHARDS / "train/.00099.npz.999999999.tmp").write_bytes(b"of one killed")
    before = contents()
    write_params(data_path=ROOT / "data/raw")
    (paths.METRICS / "prepare.json").unlink()
    (paths.METRICS / "prepare.json").mkdir()
    assert exit_code("prepare", monkeypatch) == 5
    assert contents() == before
    (paths.METRICS / "prepare.json").rmdir()
    assert exit_code("prepare", monkeypatch) == 0
    assert len(shards()) == 43 + 4 + 11
    assert not list(paths.SHARDS.glob("*/.*"))


def test_digest_of_a_split_covers_its_shards(sharded):
    manifest = load_manifest()
    assert manifest.digest("validation") == manifest.sha256["validation"]
    digests = {manifest.digest("train"), manifest.sha256["train"]}
    for name in manifest.shards["train"]:
        files = manifest.shards["train"] | {name: "0" * 64}
        changed = manifest.model_copy(update={"shards": {"train": files}})
        digests.add(changed.digest("train"))
    assert len(digests) == 5


def damage():
    content = bytearray((paths.SHARDS / TRAIN[1]).read_bytes())
    content[700] ^= 1
    (paths.SHARDS / TRAIN[1]).write_bytes(content)


def swap():
    first, second = (paths.SHARDS / name for name in TRAIN[:2])
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def add_one_more():
    content = (paths.SHARDS / TRAIN[2]).read_bytes()
    (paths.SHARDS / "train/00004.npz").write_bytes(content)


def rename_last():
    (paths.SHARDS / TRAIN[2]).rename(paths.SHARDS / "train/3.npz")


WRONG = {
    "damaged": (damage, "train/00002.npz: expected SHA-256"),
    "swapped": (swap, "train/00001.npz: expected SHA-256"),
    "cut short": (lambda: os.truncate(paths.SHARDS / TRAIN[2], 99), "expected SHA-256"),
    "the first is missing": (
        lambda: (paths.SHARDS / TRAIN[0]).unlink(),
        "train/00002.npz: expected shards/train/00001.npz, because",
    ),
    "the last is missing": (
        lambda: (paths.SHARDS / TRAIN[2]).unlink(),
        "data/prepared/shards/train: expected the 3 shards of train that",
    ),
    "one more": (add_one_more, "manifest.json lists, found 4. Prepare it again"),
    "another name": (
        rename_last,
        "train/3.npz: expected shards/train/00003.npz, be",
    ),
    "a folder": (
        lambda: [
            (paths.SHARDS / TRAIN[2]).unlink(),
            (paths.SHARDS / TRAIN[2]).mkdir(),
        ],
        "train/00003.npz: expected a file, found none",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_changed_shard_ends_training_with_exit_code_3(
    sharded, write_params, monkeypatch, capsys, name
):
    spoil, message = WRONG[name]
    write_params(model="mlp", hidden=8, epochs=1)
    spoil()
    assert exit_code("train", monkeypatch) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    with pytest.raises(DataError):
        open_split("train", load_manifest())
    assert len(open_split("test", load_manifest()).labels) == 37


@pytest.mark.parametrize(
    "files",
    [
        {"shards/train/00002.npz": "0" * 64},
        {"../../outside.npz": "0" * 64},
        {"shards/test/00001.npz": "0" * 64},
    ],
)
def test_manifest_with_unexpected_files_is_refused(sharded, files):
    content = load_manifest().model_dump() | {"shards": {"train": files}}
    with pytest.raises(DataError, match="expected the 1 shards of train"):
        open_split("train", Manifest(**content))


def write(folder, name, images, labels):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    np.savez(folder / name, images=images, labels=labels)


IMAGES, LABELS = SPLITS["train"]


@pytest.mark.parametrize(
    ("name", "images", "labels", "message"),
    [
        ("train/00002.npz", IMAGES, LABELS, "expected shards/train/00001.npz, because"),
        ("train/1.npz", IMAGES, LABELS, "expected shards/train/00001.npz, because"),
        ("train/00001.npy.npz", IMAGES, LABELS, "expected shards/train/00001.npz, b"),
        ("test/00001.npz", IMAGES, LABELS, r"test\.npz: expected a file, found none"),
        ("train/00001.npz", IMAGES[:9], LABELS, "found 9 images and 100 labels"),
        ("train/00001.npz", IMAGES[:, :4], LABELS, r"shape \[8, 8, 1\] as in .*train"),
        ("train/00001.npz", IMAGES / 2, LABELS, "images: expected uint8 or other"),
        ("train/00001.npz", IMAGES, LABELS / 2, "labels: expected integers with 1"),
    ],
)
def test_malformed_shard_of_the_user_is_named(tmp_path, name, images, labels, message):
    write(tmp_path, "train.npz", IMAGES, LABELS)
    write(tmp_path, f"shards/{name}", images, labels)
    with pytest.raises(DataError, match=message):
        load_npz(tmp_path)


def test_compressed_shards_are_read(tmp_path):
    write(tmp_path, "train.npz", IMAGES[:60], LABELS[:60])
    rest = {"images": IMAGES[60:], "labels": LABELS[60:].astype(np.uint8)}
    (tmp_path / "shards/train").mkdir(parents=True)
    np.savez_compressed(tmp_path / "shards/train/00001.npz", **rest)
    found = load_npz(tmp_path).train
    np.testing.assert_array_equal(found.images[:], IMAGES)
    np.testing.assert_array_equal(found.labels, LABELS)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path, write_params):
    """400 MB of images; two shards, all labels and all hashes need less than 80 MB."""
    write_params(dataset="npz", data_path="mine")
    rng = np.random.default_rng(0)
    for number in range(8):
        images = rng.integers(0, 256, (20_000, 50, 50, 1), dtype=np.uint8)
        labels = rng.integers(0, 10, len(images))
        write(tmp_path / "mine", shard_name("train", number), images, labels)
    result, kilobytes = prepare_measured(
        tmp_path, "src.data.prepared.SHARD_BYTES = 1 << 23"
    )
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "data/prepared/shards").glob("*/*.npz"))) > 40
    assert kilobytes < 80_000


@pytest.mark.parametrize("name", ["trian/00001.npz", "train-00001.npz"])
def test_shard_in_a_misspelt_folder_is_refused(tmp_path, name):
    for file in ("train.npz", f"shards/{name}"):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **patterned(20, seed=0)._asdict())
    with pytest.raises(DataError, match=f"{name.split('/')[0]}: expected shards/train"):
        load_npz(tmp_path)
