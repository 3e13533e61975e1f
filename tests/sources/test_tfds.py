"""Data sets of tensorflow-datasets: wrong names and archives, a builder defined here.

`tests/stages/test_fashion.py` reads a whole data set.
"""

import os
import subprocess
import sys

import pytest

from src.sources.tfds import REACH_SECONDS
from tests.helpers.archives import MANUAL, NO_NETWORK, has_archives, prepare_offline
from tests.helpers.imports import ROOT
from tests.helpers.running import run_stage


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
