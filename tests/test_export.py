"""Exported files against the network that they came from."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from src import paths
from src.checkpoint import Record, Trained, weights_of
from src.data.prepared import load_manifest, load_split
from src.errors import DataError
from src.export.formats import compare, write_export
from src.models import build_model
from src.models.architecture import Architecture
from tests.conftest import patterned

MODELS = ["mlp", "cnn", "cnn_max"]
FORMATS = ("stablehlo",)


def untrained(name):
    architecture = Architecture(name, 8, 0.3, image_shape=(8, 8, 1), classes=3)
    model = build_model(architecture, nnx.Rngs(params=1))
    names = ["low", "middle", "high"]
    record = Record(
        architecture=architecture, class_names=names, sha256="", history_sha256=""
    )
    return Trained(model, weights_of(model), record)


def probabilities(trained, images):
    return np.asarray(nnx.softmax(trained.model(jnp.asarray(images))))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", FORMATS)
def test_exported_file_gives_the_probabilities_of_the_network(prepared, model, name):
    trained = untrained(model)
    predictor = write_export([name], trained)[name]
    for count in (1, 2, 37):
        images = patterned(count, seed=4).images
        found = predictor(images)
        np.testing.assert_allclose(found, probabilities(trained, images), atol=1e-6)
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_exported_file_runs_in_a_process_that_knows_nothing_of_this_project(prepared):
    trained = untrained("cnn")
    write_export(["stablehlo"], trained)
    images = patterned(5, seed=4).images
    np.save("images.npy", images)
    code = (
        "import numpy as np; from jax import export;"
        "content = bytearray(open('models/export/model.stablehlo', 'rb').read());"
        "found = export.deserialize(content).call(np.load('images.npy'));"
        "np.save('found.npy', np.asarray(found))"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=120)
    np.testing.assert_allclose(
        np.load("found.npy"), probabilities(trained, images), atol=1e-6
    )


def test_export_tells_apart_a_file_that_answers_otherwise(prepared):
    trained = untrained("mlp")
    write_export(["stablehlo"], trained)
    test = load_split("test", load_manifest())
    expected = probabilities(trained, test.images)
    with pytest.raises(DataError, match=r"model\.stablehlo: .* difference of 2e-05"):
        compare(
            "stablehlo", lambda images: expected[: len(images)] + 2e-5, test, expected
        )
    with pytest.raises(DataError, match="difference of nan"):
        compare("stablehlo", lambda images: expected * np.nan, test, expected)


def test_manifest_says_what_goes_in_and_what_comes_out(prepared):
    write_export(["stablehlo"], untrained("mlp"))
    manifest = json.loads((paths.EXPORT / "manifest.json").read_text())
    assert manifest["input"]["shape"] == ["batch", 8, 8, 1]
    assert manifest["input"]["type"] == "uint8"
    assert manifest["output"]["shape"] == ["batch", 3]
    assert manifest["class_names"] == ["low", "middle", "high"]


@pytest.mark.parametrize("name", FORMATS)
def test_writing_twice_gives_the_same_bytes(prepared, name):
    def contents():
        write_export([name], untrained("cnn"))
        return {path.name: path.read_bytes() for path in paths.EXPORT.iterdir()}

    assert contents() == contents()


@pytest.mark.parametrize("name", FORMATS)
def test_exported_file_names_no_path_of_this_machine(prepared, name):
    write_export([name], untrained("cnn"))
    for path in paths.EXPORT.iterdir():
        assert b".py" not in path.read_bytes()
