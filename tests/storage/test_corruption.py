"""Flipped bits and truncated files are never read as if they were intact."""

import random

import numpy as np
import pytest

from src import paths
from src.data.examples import Source
from src.data.prepared import load_manifest, load_split, open_split, save_prepared
from src.errors import DataError
from src.models.checkpoint import ModelRecord, arrays_of
from src.resume.snapshots import (
    SnapshotFolder,
    TrainingProgress,
    read_snapshot,
    unpack_snapshot,
)
from src.storage.atomic import replace_file
from src.storage.json_files import read_record
from src.storage.reading import digest
from src.storage.tensors import pack_tensors, read_tensors, unpack_tensors
from src.training.early_stopping import build_early_stopping, build_plateau
from src.training.events import LoopPosition
from src.training.state import build_state
from tests.helpers.examples import patterned
from tests.helpers.files import committed, write_record
from tests.helpers.training import TINY

FLIPS, CUTS = 1000, 200


def spoiled(content, seed):
    """Yields `content` with one bit flipped, then truncated, at random places."""
    draw = random.Random(seed)
    for _ in range(FLIPS):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        yield bytes(changed)
    for _ in range(CUTS):
        yield content[: draw.randrange(len(content))]


def accepted(path, read, seed):
    """The number of spoiled versions of a file that are read without an error."""
    content, count = path.read_bytes(), 0
    read()
    for other in spoiled(content, seed):
        path.write_bytes(other)
        try:
            read()
        except DataError:
            continue
        count += 1
    path.write_bytes(content)
    read()
    return count


def test_no_corrupt_split_is_accepted(prepared):
    manifest = load_manifest()
    path = paths.PREPARED / "train.npz"
    assert accepted(path, lambda: load_split("train", manifest), seed=1) == 0


def test_no_corrupt_shard_is_accepted(prepared, monkeypatch):
    monkeypatch.setattr("src.data.prepared.SHARD_BYTES", 50 * 64)
    split = patterned(100, seed=1)
    splits = dict.fromkeys(("train", "validation", "test"), split)
    committed(
        save_prepared, Source("stripes", "1", ["a", "b", "c"], *splits.values()), splits
    )
    manifest = load_manifest()
    path = paths.SHARDS / "train/00001.npz"
    assert accepted(path, lambda: open_split("train", manifest), seed=6) == 0


def test_no_corrupt_manifest_is_accepted(prepared):
    assert accepted(paths.MANIFEST, load_manifest, seed=2) == 0


def test_no_corrupt_weights_are_accepted(prepared):
    content = pack_tensors({"kernel": np.ones((30, 9), np.float32)})
    replace_file(paths.WEIGHTS, content)

    def read():
        read_tensors(paths.WEIGHTS, "", digest(content))

    assert accepted(paths.WEIGHTS, read, seed=3) == 0


def test_no_corrupt_record_is_accepted(prepared):
    write_record(
        paths.MODEL,
        {
            "architecture": vars(TINY),
            "class_names": ["a", "ä", "€"],
            "sha256": digest(b""),
            "history_sha256": digest(b"1"),
            "epoch": 7,
            "loss": 1.25e-05,
        },
    )
    assert (
        accepted(paths.MODEL, lambda: read_record(paths.MODEL, ModelRecord, ""), 4) == 0
    )


@pytest.fixture
def state_file(params, tmp_path):
    """A snapshot, and the template to read it with."""
    _, state = build_state(params, TINY, steps_per_epoch=4)
    position = LoopPosition(2, 0, None, 0, build_plateau(params))
    snapshots = SnapshotFolder(tmp_path)
    progress = TrainingProgress(build_early_stopping(params), position=position)
    snapshots.add(arrays_of(state), progress, {"kernel": np.ones((3, 9), np.float32)})
    return snapshots.path(1), state


def test_no_corrupt_snapshot_is_accepted(state_file):
    path, template = state_file

    def read():
        unpack_snapshot(path, read_snapshot(path), template)

    assert accepted(path, read, seed=5) == 0


def test_without_a_digest_some_corrupt_snapshots_are_accepted(state_file):
    """The negative control: safetensors has no checksums."""
    path, _ = state_file
    content = path.read_bytes().partition(b"\n")[2]
    path.write_bytes(content)
    assert accepted(path, lambda: unpack_tensors(path, path.read_bytes(), ""), 5) > 0
