"""The networks with plain operations, compared with the ones that train."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from src.export.rounding import inner_programs
from src.models.architecture import Architecture
from src.models.build import build_model
from src.models.loop_convolution import loop_convolution
from src.models.plain import (
    plain_max_pool,
    plain_model,
    plain_overlapping_max_pool,
    plain_relu_average_pool,
    plain_relu_max_pool,
)
from src.models.pooling import max_pool, relu_average_pool, relu_max_pool
from src.models.resnet18 import overlapping_max_pool


def network(name, shape=(9, 8, 1)):
    architecture = Architecture(name, 12, 0.5, image_shape=shape, classes=5)
    return build_model(architecture, nnx.Rngs(params=3))


def pictures(shape, count=3):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.integers(0, 256, (count, *shape), dtype=np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((name, (9, 8, 1)) for name in ("mlp", "cnn", "cnn_max", "resnet")),
        *((name, (13, 10, 3)) for name in ("mlp", "cnn", "cnn_max", "resnet")),
        pytest.param("resnet18", (33, 40, 3), marks=pytest.mark.slow),
        pytest.param("resnet18", (32, 32, 1), marks=pytest.mark.slow),
    ],
)
def test_plain_network_gives_the_logits_of_the_network(name, shape):
    model, images = network(name, shape), pictures(shape)
    model.eval()
    np.testing.assert_allclose(plain_model(model)(images), model(images), atol=2e-5)


def primitives(function, images):
    """The names of a function's primitives, inner functions included."""

    def names(program):
        for equation in program.eqns:
            yield equation.primitive.name
            for inner in inner_programs(equation):
                yield from names(inner)

    return list(names(jax.make_jaxpr(function)(images).jaxpr))


@pytest.mark.parametrize(
    ("name", "pool"), [("cnn", "reduce_window_sum"), ("cnn_max", "reduce_window_max")]
)
def test_plain_network_has_one_operation_for_each_layer(name, pool):
    found = primitives(plain_model(network(name)), pictures((9, 8, 1), count=64))
    wanted = ("conv_general_dilated", pool, "dot_general")
    assert [found.count(each) for each in wanted] == [2, 2, 2]
    assert not {"custom_vjp_call", "cond", "gather", "concatenate"} & set(found)


def test_network_itself_stays_fast():
    model = network("cnn")
    before = primitives(model, pictures((9, 8, 1)))
    plain_model(model)
    assert model.pool is relu_average_pool
    assert model.conv1.conv_general_dilated is loop_convolution
    assert primitives(model, pictures((9, 8, 1))) == before


class Parts(nnx.Module):
    """Modules with different poolings, at two depths."""

    def __init__(self, rngs):
        self.pool = max_pool
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.5)
        self.inner = nnx.List([network("cnn"), network("cnn_max")])
        self.inner[0].pool = nnx.avg_pool  # not one of ours


def test_only_our_own_functions_are_replaced_at_any_depth():
    parts = Parts(nnx.Rngs(0))
    plain = plain_model(parts)
    assert plain.pool is plain_max_pool
    assert plain.inner[0].pool is nnx.avg_pool
    assert plain.inner[1].pool is plain_relu_max_pool
    for inner in plain.inner:
        assert inner.conv2.conv_general_dilated is lax.conv_general_dilated


def test_plain_network_is_in_eval_mode():
    parts = Parts(nnx.Rngs(0))
    parts.train()
    plain = plain_model(parts)
    assert plain.norm.use_running_average
    assert plain.drop.deterministic
    assert not parts.norm.use_running_average


@pytest.mark.parametrize(
    ("fast", "plain"),
    [
        (relu_average_pool, plain_relu_average_pool),
        (max_pool, plain_max_pool),
        (relu_max_pool, plain_relu_max_pool),
        (overlapping_max_pool, plain_overlapping_max_pool),
    ],
)
def test_plain_pooling_equals_the_fast_form(fast, plain):
    images = jnp.asarray(np.random.default_rng(1).normal(size=(2, 7, 5, 3)), "float32")
    np.testing.assert_allclose(plain(images), fast(images), atol=1e-7)
