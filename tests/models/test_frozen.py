"""Which layers `freeze` names, and what becomes of them."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from src.errors import ParameterError
from src.models.frozen import Frozen, freeze


class Net(nnx.Module):
    """Two layers whose names begin alike, a list, and a shared kernel."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv1 = nnx.Conv(1, 2, (3, 3), rngs=rngs)
        self.conv10 = nnx.Conv(2, 2, (3, 3), rngs=rngs)
        norm = nnx.BatchNorm(2, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(2, 2, rngs=rngs), norm])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.same = nnx.Linear(2, 2, rngs=rngs)
        self.same.kernel = self.blocks[0].kernel
        self.train()


def names_of(model, kind):
    state = nnx.to_flat_state(nnx.state(model, kind))
    return {".".join(map(str, path)) for path, _ in state}


@pytest.fixture
def net():
    return Net()


def frozen(net, *names):
    freeze(net, names)
    return names_of(net, Frozen)


def test_name_freezes_the_layer_and_no_other_that_begins_alike(net):
    assert frozen(net, "conv1") == {"conv1.kernel", "conv1.bias"}


def test_name_of_a_block_freezes_its_weights_and_statistics(net):
    names = {f"blocks.1.{name}" for name in ("scale", "bias", "mean", "var")}
    assert frozen(net, "blocks.1") == names
    assert frozen(net, "blocks") == names | {"blocks.0.bias", "blocks.0.kernel"}


def test_single_weight_can_be_frozen(net):
    assert frozen(net, "conv1.kernel") == {"conv1.kernel"}


def test_kernel_that_two_layers_share_stays_one(net):
    freeze(net, ("blocks",))
    assert net.same.kernel is net.blocks[0].kernel


def test_without_names_nothing_changes(net):
    before = nnx.graphdef(net)
    freeze(net, ())
    assert nnx.graphdef(net) == before


def test_frozen_values_keep_their_bits(net):
    before = np.array(net.conv1.kernel[...])
    freeze(net, ("conv1",))
    np.testing.assert_array_equal(net.conv1.kernel[...], before)


def test_gradient_has_no_frozen_weights(net):
    freeze(net, ("conv1", "blocks.0"))
    images = jnp.ones((1, 4, 4, 1))
    grads = nnx.grad(lambda net: net.conv10(net.conv1(images)).sum())(net)
    assert names_of(grads, nnx.Variable) == names_of(net, nnx.Param)
    assert "conv10.kernel" in names_of(grads, nnx.Variable)


def test_frozen_batch_norm_uses_its_running_statistics_and_keeps_them(net):
    freeze(net, ("blocks",))
    norm = net.blocks[1]
    norm.mean[...], norm.var[...] = jnp.array([1.0, 2.0]), jnp.array([4.0, 9.0])
    found = norm(jnp.array([[3.0, 8.0], [100.0, 200.0]]))
    expected = [[1.0, 2.0], [49.5, 66.0]]  # (3 - 1) / 2, (8 - 2) / 3, ...
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(norm.mean[...], [1.0, 2.0])


def test_batch_norm_with_a_weight_left_to_train_uses_the_batch(net):
    freeze(net, ("blocks.1.scale",))
    found = net.blocks[1](jnp.array([[0.0, 0.0], [2.0, 4.0]]))
    np.testing.assert_allclose(found, [[-1, -1], [1, 1]], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("conv11", " Did you mean 'conv1'?"),
        ("block.0", " Did you mean 'blocks.0'?"),
        ("conv", " Did you mean 'conv1'?"),
        ("conv1.", " Did you mean 'conv1'?"),
        ("blocks.1.mean", " Did you mean 'blocks.1.bias'?"),
        ("dropout", ""),
        ("", ""),
    ],
)
def test_unknown_name_is_refused_with_the_closest(net, name, close):
    with pytest.raises(ParameterError) as error:
        freeze(net, ("conv1", name))
    assert str(error.value) == (
        "params.yaml: freeze: expected names of layers (blocks, conv1, conv10, same) "
        f"or layers in them, found {name!r}.{close}"
    )
    assert not names_of(net, Frozen)


def test_freezing_every_layer_is_refused(net):
    names = ("conv1", "conv10", "blocks", "same")
    with pytest.raises(ParameterError, match="at least one layer to train"):
        freeze(net, names)
