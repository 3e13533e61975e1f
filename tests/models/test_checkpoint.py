"""Saving and loading a trained model: bit-identical, or refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from src import paths
from src.data.prepared import load_manifest
from src.errors import DataError, DivergedError
from src.models.architecture import Architecture
from src.models.build import build_model
from src.models.checkpoint import (
    arrays_of,
    load_trained,
    save_trained,
    weights_of,
    with_arrays,
)
from src.storage.json_files import SEAL
from src.storage.reading import digest
from src.storage.tensors import pack_tensors
from src.training.state import build_state
from tests.helpers.examples import patterned
from tests.helpers.files import committed, write_record

SMALL = Architecture("mlp", hidden=6, dropout=0.1, image_shape=(8, 8, 1), classes=3)
NAMES = {"class_names": ["low", "middle", "high"], "history_sha256": "0", "epoch": 1}


@pytest.fixture
def saved(prepared):
    model = build_model(SMALL, nnx.Rngs(params=0))
    committed(save_trained, weights_of(model), SMALL, NAMES)
    return model


def save_as_if_right(weights):
    """Replaces the weights and records their digest, so that it matches."""
    paths.WEIGHTS.write_bytes(pack_tensors(weights))
    record = json.loads(paths.MODEL.read_text())
    record["sha256"] = digest(paths.WEIGHTS.read_bytes())
    rewrite(record)


def rewrite(record):
    """Replaces model.json; its own digest matches."""
    write_record(paths.MODEL, {key: record[key] for key in record if key != SEAL})


def test_network_read_back_gives_the_same_logits_to_the_bit(saved):
    images = jnp.asarray(patterned(5, seed=0).images)
    trained = load_trained(load_manifest())
    np.testing.assert_array_equal(trained.model(images), saved(images))
    assert trained.record.architecture == SMALL


def test_same_weights_give_the_same_file_to_the_byte(saved):
    before = paths.WEIGHTS.read_bytes()
    committed(save_trained, weights_of(saved), SMALL, NAMES)
    assert paths.WEIGHTS.read_bytes() == before


def test_weights_of_another_network_are_refused_by_the_first_name(saved):
    other = Architecture("mlp", 7, 0.1, image_shape=(8, 8, 1), classes=3)
    save_as_if_right(weights_of(build_model(other, nnx.Rngs(params=0))))
    with pytest.raises(
        DataError,
        match=r"safetensors: dense\.bias: expected float32 \[6\], found float32 \[7\]",
    ):
        load_trained(load_manifest())


def test_missing_weight_is_named(saved):
    weights = weights_of(saved)
    del weights["output.kernel"]
    save_as_if_right(weights)
    with pytest.raises(
        DataError, match=r"output\.kernel: expected float32 \[6, 3\], found none"
    ):
        load_trained(load_manifest())


def test_weights_of_another_type_are_refused(saved):
    save_as_if_right(
        {name: array.astype(np.float64) for name, array in weights_of(saved).items()}
    )
    with pytest.raises(DataError, match=r"expected float32 \[6\], found float64 \[6\]"):
        load_trained(load_manifest())


def test_changed_weights_are_refused_by_their_digest(saved):
    content = bytearray(paths.WEIGHTS.read_bytes())
    content[len(content) // 2] ^= 1
    paths.WEIGHTS.write_bytes(content)
    with pytest.raises(
        DataError, match=r"model\.safetensors: expected SHA-256 .* dvc repro"
    ):
        load_trained(load_manifest())


def test_network_for_other_data_is_refused(saved):
    other = Architecture("mlp", 6, 0.1, image_shape=(9, 8, 1), classes=3)
    committed(
        save_trained, weights_of(build_model(other, nnx.Rngs(params=0))), other, NAMES
    )
    with pytest.raises(
        DataError, match=r"\(8, 8, 1\), .*found one for \(\(9, 8, 1\), "
    ):
        load_trained(load_manifest())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"architecture": 3}', "\x00"])
def test_malformed_record_is_refused(saved, content):
    paths.MODEL.write_text(content)
    with pytest.raises(DataError, match=r"models/model\.json: .*expected .* dvc repro"):
        load_trained(load_manifest())


def test_missing_model_names_the_command_that_makes_it(prepared):
    with pytest.raises(DataError, match=r"models/model\.json: .* dvc repro train"):
        load_trained(load_manifest())


def test_network_for_classes_of_other_names_is_refused(saved):
    weights = weights_of(saved)
    committed(
        save_trained, weights, SMALL, NAMES | {"class_names": ["high", "middle", "low"]}
    )
    with pytest.raises(DataError, match=r"found one for \(\(8, 8, 1\), \['high'"):
        load_trained(load_manifest())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_never_saved(prepared, value):
    weights = {"dense.kernel": np.array([[1.0, value]], np.float32)}
    with pytest.raises(DivergedError, match=r"dense\.kernel: expected finite weights"):
        committed(save_trained, weights, SMALL, NAMES)
    assert not paths.WEIGHTS.exists()


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
def test_state_of_training_is_read_back_to_the_bit(params, optimizer):
    """muon keeps moments for some weights only; the others have no array."""
    changes = {"optimizer": optimizer, "model": "mlp", "hidden": 4}
    params = params.model_copy(update=changes)
    architecture = Architecture("mlp", 4, 0.0, (2, 2, 1), 3, None, None, None, None)
    _, state = build_state(params, architecture, 10)
    found = with_arrays(state, arrays_of(state), paths.WEIGHTS, "")
    assert jax.tree.structure(found) == jax.tree.structure(state)
    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True)
    assert all(np.array_equal(one, other) for one, other in leaves)
