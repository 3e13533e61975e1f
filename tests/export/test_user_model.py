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
    filters, blocks = (16, 1) if kind == "resnet" else (None, None)
    hidden = 16 if kind == "cnn" else None
    architecture = Architecture(kind, hidden, 0.0, shape, 5, filters, blocks)
    model = build_model(architecture, nnx.Rngs(params=seed))
    if kind == "resnet":
        as_after_training(model, np.random.default_rng(seed))
    model.eval()
    return model


def as_after_training(model, rng):
    """Statistics and a last layer that are not those of the start."""
    for block in (model.stem, *model.blocks):
        for _, norm in nnx.iter_modules(block):
            if isinstance(norm, nnx.BatchNorm):
                shape = norm.mean[...].shape
                norm.mean[...] = jnp.asarray(rng.normal(0, 0.2, shape), jnp.float32)
                norm.var[...] = jnp.asarray(rng.uniform(0.5, 2, shape), jnp.float32)
    shape = model.output.kernel[...].shape
    model.output.kernel[...] = jnp.asarray(rng.normal(size=shape), jnp.float32)


CASES = [
    *((kind, 28, seed) for kind in ("cnn", "resnet", "user") for seed in range(4)),
    *((kind, 64, seed) for kind in ("cnn", "resnet", "user") for seed in range(4)),
    *(("cnn", 224, 2), ("resnet", 224, 3), ("user", 224, 0), ("user", 224, 1)),
]


@pytest.mark.parametrize(("kind", "size", "seed"), CASES)
def test_no_float_format_changes_a_prediction(tmp_path, kind, size, seed):
    shape = size, size, 3
    images = blocks(shape, 12, seed)
    model = undecided(build(kind, shape, seed), images)
    export = exported(tmp_path, FLOAT, as_trained(model, shape, 5), shape)
    assert export.manifest["left_out"] == {}
    expected = network_probabilities(model, images)
    allowed = allowed_differences(expected, export.error)
    assert len(set(expected.argmax(1))) > 1
    first, second = -np.sort(-expected, axis=1)[:, :2].T
    decided = first - second > 2 * allowed
    assert decided.sum() > 6
    for name in FLOAT:
        found = run.load(tmp_path / format_module(name).FILE)(images)
        assert (np.abs(found - expected).max(1) <= allowed).all()
        assert (found.argmax(1) == expected.argmax(1))[decided].all()
