"""A user's network and networks of large images, in all formats."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from src.config.names import FormatName
from src.export.formats import format_module
from src.export.rounding import allowed_differences
from src.export.shipped import run
from src.models.architecture import Architecture
from src.models.build import build_model
from tests.helpers.formats import FORMATS, as_trained, exported
from tests.helpers.user_model import blocks, undecided, user_model

# From the code of TensorFlow.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
    ),
]
FLOAT: list[FormatName] = [name for name in FORMATS if name != "tflite_int8"]


def network_probabilities(model, images):
    return np.float64(nnx.softmax(model(jnp.asarray(images))))


@pytest.mark.parametrize("shape", [(32, 32, 1), (37, 45, 3)])
def test_users_network_is_exported_in_all_formats(tmp_path, shape):
    images = blocks(shape, 30)
    model = undecided(user_model(shape[2], 3), images)
    export = exported(tmp_path, FORMATS, as_trained(model, shape), shape)
    assert export.manifest["left_out"] == {}
    expected = network_probabilities(model, images)
    for name in FORMATS:
        found = run.load(tmp_path / format_module(name).FILE)(images)
        if name == "tflite_int8":  # layer norm is coarse in 8 bits
            assert np.abs(found - expected).mean() < 0.15
        else:
            np.testing.assert_allclose(found, expected, atol=1e-5)


def build(kind, shape, seed):
    if kind == "user":
        return user_model(shape[2], 5, seed)
    architecture = Architecture("cnn", 16, 0.0, image_shape=shape, classes=5)
    return build_model(architecture, nnx.Rngs(params=seed))


@pytest.mark.parametrize("kind", ["cnn", "user"])
@pytest.mark.parametrize("size", [28, 64, 224])
def test_no_float_format_changes_a_prediction(tmp_path, kind, size):
    shape = size, size, 3
    for seed in range(2):
        images = blocks(shape, 12, seed)
        model = undecided(build(kind, shape, seed), images)
        folder = tmp_path / str(seed)
        folder.mkdir()
        export = exported(folder, FLOAT, as_trained(model, shape, 5), shape)
        assert export.manifest["left_out"] == {}
        expected = network_probabilities(model, images)
        allowed = allowed_differences(expected, export.error)
        assert len(set(expected.argmax(1))) > 1
        for name in FLOAT:
            found = run.load(folder / format_module(name).FILE)(images)
            assert (np.abs(found - expected).max(1) <= allowed).all()
            assert (found.argmax(1) == expected.argmax(1)).all()
