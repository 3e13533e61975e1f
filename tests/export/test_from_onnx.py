"""Functions of JAX as graphs, compared with JAX in numpy and in onnxruntime."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from src.export.graph import OPERATORS, UnsupportedError
from tests.helpers.formats import graph_for, play, play_onnx
from tests.helpers.user_model import user_model

SHAPE = 6, 8, 4
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 3, 4, 6)).astype(np.float32)
NHWC = "NHWC", "HWIO", "NHWC"


def pictures(shape=SHAPE, count=3):
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8)


def with_head(function):
    """A network whose only hidden layer is a function."""

    def logits(images):
        hidden = function(images.astype(jnp.float32) / 255 - 0.5)
        features = hidden.reshape(hidden.shape[0], -1)
        rng = np.random.default_rng(2)
        return features @ rng.normal(0, 0.3, (features.shape[1], 5)).astype(np.float32)

    return logits


def convolution(*, strides=(1, 1), padding="SAME", kernel=KERNEL, **options):
    return lambda x: lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=NHWC, **options
    )


def standardized(x):
    """A convolution whose kernel is computed from the weights."""
    kernel = jnp.asarray(KERNEL)
    axes = {"axis": (0, 1, 2), "keepdims": True}
    kernel = (kernel - kernel.mean(**axes)) / kernel.std(**axes)
    return convolution(kernel=kernel)(x)


FUNCTIONS = {
    "one axis less": lambda x: x.mean((1, 2)),
    "mean with kept axes": lambda x: x - x.mean((1, 2), keepdims=True),
    "sum": lambda x: x.sum(3),
    "maximum": lambda x: x.max((1, 2)),
    "minimum": lambda x: x.min(3),
    "three axes": lambda x: x - x.mean((1, 2, 3), keepdims=True),
    "variance": lambda x: x / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5),
    "arithmetic": lambda x: 2 * x**2 - x**3 / (1 + jnp.abs(x)) + lax.rsqrt(x + 2),
    "powers": lambda x: jnp.exp(-x) + jnp.log1p(jnp.abs(x)) + (x + 1) ** 1.5,
    "clip": lambda x: lax.clamp(-0.1, x, 0.2) + jnp.clip(x, 0.1, 0.3),
    "where": lambda x: jnp.where((x > 0) & (x < 0.3), x, 0.1 * x),
    "slices": lambda x: x[:, ::2, 1:5, :2],
    "strided slices": lambda x: x[:, ::2, ::3],
    "one place": lambda x: x[:, 0, -1],
    "split": lambda x: jnp.concatenate(jnp.split(x, 2, axis=-1)[::-1], -1),
    "stack": lambda x: jnp.stack([x, 2 * x], 1),
    "constant for each image": lambda x: jnp.concatenate(
        [jnp.ones((x.shape[0], 1, 8, 4)), x], 1
    ),
    "broadcast": lambda x: jnp.broadcast_to(x.mean(1, keepdims=True), x.shape),
    "padding": lambda x: jnp.pad(
        x, ((0, 0), (1, 2), (0, 0), (3, 0)), constant_values=2
    ),
    "edges": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), mode="edge"),
    "channels first": lambda x: x.transpose(0, 3, 1, 2),
    "pixels to channels": lambda x: x.reshape(-1, 3, 2, 4, 2, 4).transpose(
        0, 1, 3, 2, 4, 5
    ),
    "matrix": lambda x: jnp.einsum("bhwc,cd->bdhw", x, KERNEL[0, 0]),
    "products of values": lambda x: jnp.einsum("bhwc,bhvc->bhwv", x, x),
    "convolution": convolution(),
    "strides": convolution(strides=(2, 3)),
    "uneven padding": convolution(strides=(2, 1), padding=((0, 1), (2, 3))),
    "dilation": convolution(padding="VALID", rhs_dilation=(2, 3)),
    "groups": convolution(kernel=KERNEL[:, :, :2], feature_group_count=2),
    "depthwise": convolution(kernel=KERNEL[:, :, :1, :4], feature_group_count=4),
    "depthwise with more filters": convolution(
        kernel=np.concatenate([KERNEL, KERNEL], -1)[:, :, :1, :8],
        feature_group_count=4,
    ),
    "standardized weights": standardized,
    "average pooling": lambda x: nnx.avg_pool(x, (2, 2), strides=(2, 2)),
    "padded average pooling": lambda x: nnx.avg_pool(x, (3, 3), (2, 2), "SAME"),
    "average without padding": lambda x: nnx.avg_pool(
        x, (3, 3), (2, 2), "SAME", count_include_pad=False
    ),
    "maximum pooling": lambda x: nnx.max_pool(x, (3, 2), strides=(2, 1)),
    "padded maximum pooling": lambda x: nnx.max_pool(
        x, (3, 3), (2, 2), ((1, 1), (1, 0))
    ),
    "minimum pooling": lambda x: nnx.min_pool(x, (2, 2), strides=(2, 2)),
    "pooling without an operator": lambda x: x.reshape(-1, 3, 2, 4, 2, 4).max((2, 4)),
    "gelu": nnx.gelu,
    "exact gelu": lambda x: nnx.gelu(x, approximate=False),
    **{
        name: getattr(nnx, name)
        for name in (
            *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu", "glu"),
            *("hard_swish", "hard_tanh", "softplus", "log_sigmoid", "soft_sign"),
            *("tanh", "sigmoid", "softmax", "log_softmax"),
        )
    },
}
LAYERS = {
    "layer norm": lambda rngs: nnx.LayerNorm(4, rngs=rngs),
    "RMS norm": lambda rngs: nnx.RMSNorm(4, rngs=rngs),
    "group norm": lambda rngs: nnx.GroupNorm(4, num_groups=2, rngs=rngs),
    "instance norm": lambda rngs: nnx.InstanceNorm(4, rngs=rngs),
    "batch norm": lambda rngs: nnx.BatchNorm(4, use_running_average=True, rngs=rngs),
    "PReLU": lambda _: nnx.PReLU(0.1),
    "dense layer of pixels": lambda rngs: nnx.Linear(4, 5, rngs=rngs),
    "dense layer of two axes": lambda rngs: nnx.LinearGeneral(
        (8, 4), (5, 3), axis=(-2, -1), rngs=rngs
    ),
}


def check(logits, shape=SHAPE, tolerance=1e-6):
    """Compares both players with JAX; returns the graph."""
    graph, images = graph_for(logits, shape), pictures(shape)
    expected = nnx.softmax(logits(jnp.asarray(images)))
    np.testing.assert_allclose(play(graph, images), expected, atol=tolerance)
    np.testing.assert_allclose(play_onnx(graph, images), expected, atol=tolerance)
    assert {node.op for node in graph.nodes} <= OPERATORS
    assert all(array.dtype == np.float32 for array in graph.constants.values())
    return graph


@pytest.mark.parametrize("name", FUNCTIONS)
def test_graph_of_a_function_gives_its_values(name):
    check(with_head(FUNCTIONS[name]))


@pytest.mark.parametrize("name", LAYERS)
def test_graph_of_a_layer_gives_its_values(name):
    check(with_head(LAYERS[name](nnx.Rngs(0))))


def test_graph_of_attention_gives_its_values():
    attention = nnx.MultiHeadAttention(
        num_heads=2, in_features=4, decode=False, rngs=nnx.Rngs(0)
    )
    check(with_head(lambda x: attention(x.reshape(x.shape[0], 48, 4))))


@pytest.mark.parametrize("shape", [(32, 32, 1), (37, 33, 3)])
def test_graph_of_a_users_network_gives_its_probabilities(shape):
    check(user_model(shape[2], 5), shape)


def test_one_image_gives_the_probabilities_of_the_batch():
    graph = graph_for(user_model(3, 5), (32, 32, 3))
    images = pictures((32, 32, 3))
    single = np.concatenate([play(graph, image[None]) for image in images])
    np.testing.assert_allclose(single, play(graph, images), atol=1e-6)


def operators(graph):
    return [node.op for node in graph.nodes]


def test_batch_norm_is_folded_into_the_convolution_and_the_dense_layer_before_it():
    rngs = nnx.Rngs(0)
    layers = nnx.Conv(4, 6, (3, 3), rngs=rngs), nnx.Linear(6, 7, rngs=rngs)
    norms = nnx.BatchNorm(6, rngs=rngs), nnx.BatchNorm(7, rngs=rngs)
    for norm in norms:
        norm.eval()
        size = norm.mean[...].shape
        norm.mean[...] = jnp.asarray(RNG.normal(size=size), jnp.float32)
        norm.var[...] = jnp.asarray(RNG.uniform(0.5, 2, size), jnp.float32)

    def logits(images):
        hidden = images.astype(jnp.float32) / 255
        hidden = nnx.relu(norms[0](layers[0](hidden))).mean((1, 2))
        return norms[1](layers[1](hidden))

    graph = check(logits)
    assert operators(graph) == [
        *("Cast", "Div", "Transpose", "Conv", "Relu", "GlobalAveragePool"),
        *("Reshape", "Gemm", "Softmax"),
    ]


def test_batch_norm_without_a_layer_before_it_is_a_product_and_an_addition():
    norm = nnx.BatchNorm(4, use_running_average=True, rngs=nnx.Rngs(0))
    norm.mean[...] = jnp.asarray([0.1, 0.2, 0.3, 0.4])
    graph = check(with_head(lambda x: norm(nnx.relu(x))))
    after = operators(graph)[operators(graph).index("Relu") + 1 :]
    assert after == ["Mul", "Add", "Reshape", "Gemm", "Softmax"]


def test_layer_that_two_others_read_keeps_its_own_values():
    """The first reader's scale must not reach the second one."""
    layer = nnx.Conv(4, 4, (3, 3), rngs=nnx.Rngs(0))

    def function(x):
        hidden = layer(x)
        return 3 * hidden + nnx.relu(hidden)

    check(with_head(function))


def test_images_between_two_convolutions_are_not_transposed():
    layers = [nnx.Conv(4, 4, (3, 3), rngs=nnx.Rngs(seed)) for seed in range(3)]

    def function(x):
        for layer in layers:
            x = jnp.concatenate([nnx.gelu(layer(x)), x], -1)[..., 2:6]
        return x.mean((1, 2))

    assert operators(check(with_head(function))).count("Transpose") == 1


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: jnp.cumsum(x, 1), "cumsum"),
        (lambda x: jnp.sort(x, 1), "sort"),
        (nnx.ConvTranspose(4, 4, (2, 2), (2, 2), rngs=nnx.Rngs(0)), "transposed"),
        (lambda x: x * (x.argmax(-1, keepdims=True) > 1), "argmax"),
        (lambda x: x - x.mean(0, keepdims=True), "size of the batch"),
        (lambda x: x - x.max(0, keepdims=True), "a reduction over the batch"),
        (lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), "bfloat16"),
    ],
)
def test_operation_without_an_operator_is_named(function, named):
    with pytest.raises(UnsupportedError, match=named):
        graph_for(with_head(function), SHAPE)


def test_arithmetic_on_bytes_is_refused():
    """It wraps at 256 in JAX, and would not in float32."""
    with pytest.raises(UnsupportedError, match="mul of uint8"):
        graph_for(lambda images: (images * 2).astype(jnp.float32).sum((1, 2)), SHAPE)


def test_same_network_gives_the_same_graph():
    first, second = (graph_for(user_model(1, 5), (16, 16, 1)) for _ in range(2))
    assert first.record() == second.record()
    for name, array in first.constants.items():
        assert array.tobytes() == second.constants[name].tobytes()
