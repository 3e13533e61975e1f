"""Data sets of tensorflow-datasets: Fashion-MNIST, and a builder defined here."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from src.sources.tfds import REACH_SECONDS
from tests.helpers.archives import (
    MANUAL,
    NO_NETWORK,
    has_archives,
    idx,
    prepare_offline,
)
from tests.helpers.imports import ROOT
from tests.helpers.running import run_stage

MEASURED = """
import atexit
import re
import runpy
from pathlib import Path

def write_peak():
    status = Path("/proc/self/status").read_text()
    Path("peak").write_text(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1])

atexit.register(write_peak)
runpy.run_module("stages.train", run_name="__main__")
"""


@pytest.mark.slow
@has_archives
def test_fashion_mnist_goes_through_the_pipeline_without_a_network(write_params):
    folder = write_params(dataset="fashion_mnist").parent
    result = prepare_offline(folder, MANUAL)
    assert result.returncode == 0, result.stderr
    with np.load(folder / "data/prepared/test.npz") as test:
        images, labels = test["images"], test["labels"]
    expected = idx("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
    order = np.lexsort(images.reshape(len(images), -1).T)
    expected_order = np.lexsort(expected.reshape(len(expected), -1).T)
    np.testing.assert_array_equal(images[order], expected[expected_order])
    truth = idx("t10k-labels-idx1-ubyte.gz", 8)
    assert np.bincount(labels).tolist() == np.bincount(truth).tolist() == [1000] * 10
    manifest = (folder / "data/prepared/manifest.json").read_text()
    assert "Ankle boot" in manifest

    write_params(dataset="fashion_mnist", model="cnn", epochs=5)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MEASURED]
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=500)
    assert int((folder / "peak").read_text()) < 1_500_000  # kilobytes
    assert run_stage("evaluate", folder).returncode == 0
    scores = json.loads((folder / "metrics/test.json").read_text())["test"]
    assert scores["accuracy"] >= 0.91


@pytest.mark.slow
@has_archives
def test_short_precision_is_within_half_a_point_of_float32(write_params):
    changes = {"dataset": "fashion_mnist", "model": "mlp", "epochs": 3, "lr": 0.001}
    accuracy = {}
    folder = write_params(**changes).parent
    assert prepare_offline(folder, MANUAL).returncode == 0
    for name in ("float32", "bfloat16", "float16"):
        write_params(precision=name, **changes)
        for stage in ("train", "evaluate"):
            assert run_stage(stage, folder).returncode == 0
        scores = json.loads((folder / "metrics/test.json").read_text())["test"]
        accuracy[name] = scores["accuracy"]
    assert accuracy["bfloat16"] == pytest.approx(accuracy["float32"], abs=0.005)
    assert accuracy["float16"] == pytest.approx(accuracy["float32"], abs=0.005)


@pytest.mark.slow
@has_archives
def test_archive_with_another_digest_is_refused(write_params, tmp_path):
    manual = tmp_path / "data/manual"
    manual.mkdir(parents=True)
    for archive in MANUAL.glob("*.gz"):
        (manual / archive.name).write_bytes(archive.read_bytes())
    with (manual / "t10k-labels-idx1-ubyte.gz").open("ab") as file:
        file.write(b"more")
    folder = write_params(dataset="fashion_mnist").parent
    result = prepare_offline(folder, manual)
    assert result.returncode == 3, result.stderr
    last = result.stderr.splitlines()[-1]
    assert "t10k-labels-idx1-ubyte.gz: expected SHA-256 " in last
    assert last.endswith("Download the archive again.")
    assert not (folder / "data/prepared").exists()


@pytest.mark.slow
def test_without_network_and_archives_the_missing_files_are_named(write_params):
    folder = write_params(dataset="mnist").parent
    result = run_stage(
        "prepare", folder, TFDS_DATA_DIR=str(folder / "tfds"), **NO_NETWORK
    )
    assert result.returncode == 5, result.stderr
    last = result.stderr.splitlines()[-1]
    for part in ("train-images-idx3-ubyte.gz", "data/manual", "dataset: digits"):
        assert part in last
    assert REACH_SECONDS < 30  # the longest wait for an answer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fashion_mnits", "Did you mean 'fashion_mnist'?"),
        ("emnist/lettres", "expected a config of emnist"),
    ],
)
def test_unknown_data_set_is_code_two(write_params, name, message):
    folder = write_params(dataset=name).parent
    result = run_stage("prepare", folder, **NO_NETWORK)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr.splitlines()[-1]


BUILDER = """
import numpy as np
import tensorflow_datasets as tfds


class Stripes(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.3")

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({{
                "picture": tfds.features.Image(shape={shape}),
                "kind": tfds.features.ClassLabel(names=["flat", "steep"]),
            }}),
            supervised_keys=("picture", "kind"),
        )

    def _split_generators(self, manager):
        return {{name: self.examples(name) for name in {splits}}}

    def examples(self, name):
        for index in range(5):
            picture = np.full((4, 6, 3), 10 * index, np.uint8)
            yield f"{{name}}{{index}}", {{"picture": picture, "kind": index % 2}}

    _generate_examples = examples


"""

READER = """
from pathlib import Path

import own.stripes
from src.data import lazy_images as stored
from src.sources.tfds import load_builder

stored.MAX_IN_MEMORY = {limit}
source = load_builder("stripes", Path("manual"))
print(source.version, source.class_names, source.test is None)
print(source.train.images.dtype, source.train.images.shape, source.train.labels.dtype)
print(type(source.train.images).__name__)
values = source.train.images[:][:, 0, 0, 0] // 10
print(sorted(values.tolist()), (source.train.labels == values % 2).all())
"""


def run_builder(folder, limit=1 << 28, **settings):
    (folder / "own").mkdir()
    (folder / "own/__init__.py").touch()
    (folder / "own/stripes.py").write_text(BUILDER.format(**settings))
    return subprocess.run(
        [sys.executable, "-c", READER.format(limit=limit)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("splits", "limit", "kind"),
    [
        (("train", "test"), 1 << 28, "ndarray"),
        (("train",), 1 << 28, "ndarray"),
        (("train", "test"), 0, "LazyImages"),
    ],
)
def test_any_builder_gives_its_images_labels_and_names(tmp_path, splits, limit, kind):
    result = run_builder(tmp_path, limit, shape=(4, 6, 3), splits=splits)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-4:] == [
        f"1.2.3 ['flat', 'steep'] {len(splits) == 1}",
        "uint8 (5, 4, 6, 3) int32",
        kind,
        "[0, 1, 2, 3, 4] True",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"shape": (None, None, 3), "splits": ("train",)},
            "dataset stripes: expected images of one shape with a class label, found",
        ),
        (
            {"shape": (4, 6, 3), "splits": ("test",)},
            "dataset stripes: expected a split named train, found test.",
        ),
    ],
)
def test_builder_without_images_and_labels_is_refused(tmp_path, settings, message):
    result = run_builder(tmp_path, **settings)
    assert f"DataError: {message}" in result.stderr
