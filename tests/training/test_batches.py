"""Streamed batches against resident batches: the same bits."""

import os

import numpy as np
import pytest

from src.data.examples import Examples
from src.data.lazy_images import LazyImages
from src.data.prepared import load_manifest, open_split
from src.errors import DataError
from src.experiments.lr_range import find_range
from src.storage.lazy_npz import locate_arrays
from src.training import batches as feeding
from src.training.batches import DeviceBatches, StreamedBatches, build_batches
from src.training.data import epoch_order
from tests.helpers.chaos import OUTPUTS, outputs
from tests.helpers.examples import patterned
from tests.helpers.running import OPTIMIZED, run_stage
from tests.helpers.training import SMALL, run

SPLIT = patterned(60, seed=0)
IMAGE = 8 * 8  # bytes
ORDER = epoch_order(SPLIT.labels, 8, seed=0, epoch=1, sampling_power=0.0)


@pytest.fixture
def stored(tmp_path):
    """`SPLIT` with its images in a file."""
    np.savez(tmp_path / "split.npz", images=SPLIT.images)
    images = locate_arrays(tmp_path / "split.npz", "Mend it.")["images"]
    return Examples(LazyImages([images]), SPLIT.labels)


def batches(source, order, first=0):
    """Every batch of a source, indexed as in the compiled chunk."""
    found, expected = [], first
    for block in source.blocks(order, first):
        assert block.start == expected, "a block begins where the last one ended"
        expected = block.stop
        images, labels = map(np.asarray, block.examples)
        rows = np.asarray(block.batch_indices)
        assert len(rows) == len(order)
        found += [
            (images[rows[number]], labels[rows[number]])
            for number in range(block.start, block.stop)
        ]
    assert expected == len(order)
    return found


def assert_same(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("first", range(7))
@pytest.mark.parametrize(
    "ahead",
    [
        pytest.param(1, id="a batch is larger"),
        pytest.param(8 * IMAGE, id="one batch"),
        pytest.param(3 * 8 * IMAGE - 1, id="nearly three batches"),
        pytest.param(4 * 8 * IMAGE, id="ends within the second block"),
        pytest.param(7 * 8 * IMAGE, id="exactly all batches"),
        pytest.param(1 << 20, id="more than all"),
    ],
)
def test_streamed_batches_equal_resident_batches(stored, monkeypatch, ahead, first):
    monkeypatch.setattr(feeding, "PREFETCH_BYTES", ahead)
    expected = [(SPLIT.images[rows], SPLIT.labels[rows]) for rows in ORDER[first:]]
    assert_same(batches(StreamedBatches(stored), ORDER, first), expected)
    assert_same(batches(DeviceBatches(SPLIT), ORDER, first), expected)


def test_order_may_repeat_an_example(stored, monkeypatch):
    monkeypatch.setattr(feeding, "PREFETCH_BYTES", 2 * 8 * IMAGE)
    order = np.minimum(np.arange(64, dtype=np.int32), 59).reshape(8, 8)
    expected = batches(DeviceBatches(SPLIT), order)
    assert_same(batches(StreamedBatches(stored), order), expected)


def test_all_blocks_have_one_size_and_compile_once(stored, monkeypatch):
    monkeypatch.setattr(feeding, "PREFETCH_BYTES", 3 * 8 * IMAGE)
    blocks = list(StreamedBatches(stored).blocks(ORDER))
    assert [(block.start, block.stop) for block in blocks] == [(0, 3), (3, 6), (6, 7)]
    assert {block.examples.images.shape for block in blocks} == {(3, 8, 8, 8, 1)}


def test_error_in_the_prefetch_thread_reaches_the_caller(stored, tmp_path, monkeypatch):
    monkeypatch.setattr(feeding, "PREFETCH_BYTES", 8 * IMAGE)
    blocks = StreamedBatches(stored).blocks(np.arange(56, dtype=np.int32).reshape(7, 8))
    next(blocks)
    os.truncate(tmp_path / "split.npz", 1000)
    with pytest.raises(DataError, match=r"truncated while it was read. Mend it\."):
        list(blocks)


@pytest.mark.parametrize(
    ("megabytes", "size", "kind"),
    [
        (0, 1, StreamedBatches),
        (1, 10**6, DeviceBatches),
        (1, 10**6 + 1, StreamedBatches),
        (3, 3 * 10**6, DeviceBatches),
        (None, 5000, DeviceBatches),
        (None, 5001, StreamedBatches),
    ],
)
def test_split_is_resident_where_it_fits(params, monkeypatch, megabytes, size, kind):
    monkeypatch.setattr(feeding, "device_budget", lambda: 5000)
    params = params.model_copy(update={"resident_megabytes": megabytes})
    # One image with one row; its size in bytes decides.
    split = Examples(np.zeros((1, 1, size, 1), np.uint8), np.zeros(1, np.int32))
    assert type(build_batches(split, params)) is kind


def test_several_processes_stream_their_split(params, become_process):
    become_process(0, 2)
    assert type(build_batches(SPLIT, params)) is StreamedBatches


class Device:
    """A device with a platform and memory statistics."""

    def __init__(self, platform, memory):
        self.platform, self.memory = platform, memory

    def memory_stats(self):
        return self.memory


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (Device("cpu", {"bytes_limit": 10}), 256 << 20),
        (Device("gpu", {"bytes_limit": 1000}), 250),
        (Device("gpu", None), 256 << 20),
    ],
)
def test_device_budget_is_a_quarter_of_its_memory(monkeypatch, device, expected):
    monkeypatch.setattr("jax.devices", lambda: [device])
    assert feeding.device_budget() == expected


def test_streamed_training_equals_resident_training(params, monkeypatch):
    changes = {"augment": ("shift",), "log_every": 4}
    steps, epochs = run(params, **changes)
    monkeypatch.setattr(feeding, "PREFETCH_BYTES", 4 * 16 * IMAGE)
    streamed_steps, streamed = run(params, StreamedBatches, **changes)
    assert streamed_steps == steps
    for (result, weights), (other, others) in zip(epochs, streamed, strict=True):
        assert result == other
        for name, array in weights.items():
            np.testing.assert_array_equal(others[name], array)


SHORT = {
    **{"model": "mlp", "hidden": 16, "batch_size": 8, "epochs": 3, "log_every": 5},
    **{"class_weight_power": 0.5, "sampling_power": 1.0},
}
# The train stage with blocks of three batches.
STREAMED = """
import runpy
import src.training.batches as feed
feed.PREFETCH_BYTES = 3 * 8 * 64
"""
STOPPED = """
import os, signal
import src.training.pacing as pace
original = pace.ChunkSizer.chunk_end
def stop(self, start, end):
    self.steps = 1
    if start == 7: os.kill(os.getpid(), signal.SIGTERM)
    return original(self, start, end)
pace.ChunkSizer.chunk_end = stop
"""


@pytest.mark.slow
def test_streamed_run_resumed_within_an_epoch_equals_the_resident_run(
    prepared, write_params, run_source, monkeypatch
):
    monkeypatch.setenv("XLA_FLAGS", OPTIMIZED)
    write_params(**SHORT, limit_examples=90)
    assert run_stage("train", prepared).returncode == 0
    expected = outputs(prepared)
    write_params(**SHORT, limit_examples=90, resident_megabytes=0)
    run_train = "runpy.run_module('stages.train', run_name='__main__')\n"
    stopped = run_source(STREAMED + STOPPED + run_train)
    assert stopped.returncode == 143, stopped.stderr
    resumed = run_source(STREAMED + run_train)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming in epoch 1, after 8 of its steps" in resumed.stdout
    found = outputs(prepared)
    for name in ("models/model.safetensors", OUTPUTS[3], OUTPUTS[4]):
        assert found[name] == expected[name]


@pytest.mark.optimized
def test_streamed_lr_range_test_equals_the_resident_one(params, stored, monkeypatch):
    """The order spans several epochs and ends within a block."""
    monkeypatch.setattr(feeding, "PREFETCH_BYTES", 3 * 16 * IMAGE)
    params = params.model_copy(update={"lr_range_steps": 20, "augment": ("shift",)})
    found = [
        find_range(split, SMALL, params)
        for split in (DeviceBatches(SPLIT), StreamedBatches(stored))
    ]
    for one, other in zip(*found, strict=True):
        assert len(one) == 20
        np.testing.assert_array_equal(one, other)


def test_prepared_split_stays_in_its_file(prepared, params):
    split = open_split("train", load_manifest())
    limit = params.model_copy(update={"resident_megabytes": 0})
    assert isinstance(build_batches(split, limit).images, LazyImages)
