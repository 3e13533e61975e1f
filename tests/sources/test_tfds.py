"""Data sets of tensorflow-datasets: wrong names and archives, a builder defined here.

`tests/stages/test_fashion.py` reads a whole data set.
"""

import json

import pytest

from tests.helpers.archives import MANUAL, NO_NETWORK, has_archives, prepare_offline
from tests.helpers.running import run_python, run_stage


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
    from src.sources.tfds import REACH_SECONDS  # imports TensorFlow

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


class {name}(tfds.core.GeneratorBasedBuilder):
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
import importlib, json, sys
from pathlib import Path
from src.data import lazy_images
from src.errors import DataError
from src.sources.tfds import load_builder

found, in_memory = {}, lazy_images.MAX_IN_MEMORY
for name in sys.argv[1:]:
    importlib.import_module(f"own.{name}")
    lazy_images.MAX_IN_MEMORY = 0 if name == "lazy" else in_memory
    try:
        source = load_builder(name, Path("manual"))
    except DataError as error:
        found[name] = str(error)
        continue
    images, labels = source.train
    values = images[:][:, 0, 0, 0] // 10
    found[name] = {
        "version": source.version,
        "class_names": source.class_names,
        "has_test": source.test is not None,
        "images": [str(images.dtype), list(images.shape), type(images).__name__],
        "labels": [str(labels.dtype), bool((labels == values % 2).all())],
        "values": sorted(values.tolist()),
    }
print(json.dumps(found))
"""
BUILDERS = {
    "both": {"shape": (4, 6, 3), "splits": ("train", "test")},
    "alone": {"shape": (4, 6, 3), "splits": ("train",)},
    "lazy": {"shape": (4, 6, 3), "splits": ("train", "test")},
    "shapeless": {"shape": (None, None, 3), "splits": ("train",)},
    "trainless": {"shape": (4, 6, 3), "splits": ("test",)},
}


@pytest.fixture(scope="module")
def read_builders(tmp_path_factory):
    """What each of `BUILDERS` gives, or its error; read in one process."""
    folder = tmp_path_factory.mktemp("builders")
    (folder / "own").mkdir()
    (folder / "own/__init__.py").touch()
    for name, settings in BUILDERS.items():
        text = BUILDER.format(name=name.capitalize(), **settings)
        (folder / f"own/{name}.py").write_text(text)
    result = run_python(["-c", READER, *BUILDERS], folder, TFDS_DATA_DIR=str(folder))
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["both", "alone", "lazy"])
def test_any_builder_gives_its_images_labels_and_names(read_builders, name):
    kind = "LazyImages" if name == "lazy" else "ndarray"
    assert read_builders[name] == {
        "version": "1.2.3",
        "class_names": ["flat", "steep"],
        "has_test": "test" in BUILDERS[name]["splits"],
        "images": ["uint8", [5, 4, 6, 3], kind],
        "labels": ["int32", True],
        "values": [0, 1, 2, 3, 4],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shapeless", "expected images of one shape with a class label, found"),
        ("trainless", "expected a split named train, found test."),
    ],
)
def test_builder_without_images_and_labels_is_refused(read_builders, name, message):
    assert read_builders[name].startswith(f"dataset {name}: {message}")
