"""Dense layers that devices share. tests/test_sharding.py trains with them."""

import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from src.models import dense
from src.models.dense import Dense, split_dense
from src.models.frozen import freeze
from src.sharding import BY_BATCH, REPLICATED, is_split, spec_of


class Network(nnx.Module):
    def __init__(self, inputs, outputs, kind=Dense):
        self.layer = kind(inputs, outputs, rngs=nnx.Rngs(0))


def test_on_one_device_it_is_linear():
    network, linear = Network(4, 6), Network(4, 6, nnx.Linear)
    split_dense(network, 1)
    images = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_array_equal(network.layer(images), linear.layer(images))


@pytest.mark.parametrize(
    ("sizes", "batch", "devices", "expected"),
    [
        pytest.param((30, 60), 19, 2, True, id="19 * 90 < 30 * 60"),
        pytest.param((30, 60), 20, 2, False, id="20 * 90 = 30 * 60"),
        pytest.param((30, 60), 1, 1, False, id="one device"),
        pytest.param((30, 60), 1, 7, False, id="60 is no multiple of 7"),
    ],
)
def test_layer_with_more_weights_than_activations_is_split(
    monkeypatch, sizes, batch, devices, expected
):
    monkeypatch.setattr(dense, "device_count", lambda: devices)
    network = Network(*sizes)
    split_dense(network, batch)
    assert is_split(network.layer.kernel) == expected
    assert is_split(network.layer.bias) == expected


def test_moments_of_a_split_layer_are_split_too(monkeypatch):
    monkeypatch.setattr(dense, "device_count", lambda: 2)
    network = Network(30, 60)
    split_dense(network, 1)
    optimizer = nnx.Optimizer(network, optax.adamw(1e-3), wrt=nnx.Param)
    specs = {spec_of(each) for _, each in nnx.to_flat_state(nnx.state(optimizer))}
    assert specs == {BY_BATCH, PartitionSpec(None, "batch"), REPLICATED}


def test_linear_of_flax_is_never_split(monkeypatch):
    monkeypatch.setattr(dense, "device_count", lambda: 2)
    network = Network(30, 60, nnx.Linear)
    split_dense(network, 1)
    assert not is_split(network.layer.kernel)


def test_layer_is_not_split_between_processes(monkeypatch):
    monkeypatch.setattr(dense, "device_count", lambda: 2)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    network = Network(30, 60)
    split_dense(network, 1)
    assert not is_split(network.layer.kernel)


@pytest.mark.parametrize("name", ["kernel", "bias"])
def test_layer_that_is_frozen_in_part_is_not_split(monkeypatch, name):
    monkeypatch.setattr(dense, "device_count", lambda: 2)
    network = Network(30, 60)
    freeze(network, [f"layer.{name}"])
    split_dense(network, 1)
    assert not is_split(network.layer.kernel)
    assert not is_split(network.layer.bias)
