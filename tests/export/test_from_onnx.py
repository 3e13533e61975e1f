"""Graphs of networks, compared with JAX; forms of ONNX, compared with onnxruntime."""

import sys

import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from flax import nnx
from jax import lax
from onnx import numpy_helper, parser

from src.export.from_onnx import graph_of
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
    "clip": lambda x: jnp.clip(x, 0.1, 0.3),
    "where": lambda x: jnp.where((x > 0) & (x < 0.3), x, 0.1 * x),
    "conditions": lambda x: jnp.where((x <= 0.1) | (x >= 0.3), x, 0.2 * x),
    "cut": lambda x: x[:, 1:-1, 2:],
    "stack": lambda x: jnp.stack([x, 2 * x], 1),
    "broadcast": lambda x: jnp.broadcast_to(x.mean(1, keepdims=True), x.shape),
    "padding": lambda x: jnp.pad(
        x, ((0, 0), (1, 2), (0, 0), (3, 0)), constant_values=2
    ),
    "channels first": lambda x: x.transpose(0, 3, 1, 2),
    "pixels to channels": lambda x: x.reshape(-1, 3, 2, 4, 2, 4).transpose(
        0, 1, 3, 2, 4, 5
    ),
    "matrix": lambda x: jnp.einsum("bhwc,cd->bhwd", x, KERNEL[0, 0]),
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
    "average of all pixels": lambda x: nnx.avg_pool(x, (6, 8)),
    "padded average pooling": lambda x: nnx.avg_pool(x, (3, 3), (2, 2), "SAME"),
    "maximum pooling": lambda x: nnx.max_pool(x, (3, 2), strides=(2, 1)),
    "padded maximum pooling": lambda x: nnx.max_pool(
        x, (3, 3), (2, 2), ((1, 1), (1, 0))
    ),
    "minimum pooling": lambda x: nnx.min_pool(x, (2, 2), strides=(2, 2)),
    "pooling without an operator": lambda x: x.reshape(-1, 3, 2, 4, 2, 4).max((2, 4)),
    "gelu": nnx.gelu,
    "exact gelu": lambda x: nnx.gelu(x, approximate=False),
    **{
        name: lambda x, name=name: getattr(nnx, name)(x)  # as jax2onnx replaces it
        for name in (
            *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu"),
            *("hard_swish", "hard_tanh", "softplus", "log_sigmoid", "soft_sign"),
            *("tanh", "sigmoid", "softmax"),
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


@pytest.mark.slow
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
        *("Cast", "Div", "Transpose", "Conv", "Transpose", "Relu"),
        *("ReduceSum", "Div", "Gemm", "Softmax"),
    ]


def test_batch_norm_without_a_layer_before_it_is_a_product_and_an_addition():
    norm = nnx.BatchNorm(4, use_running_average=True, rngs=nnx.Rngs(0))
    norm.mean[...] = jnp.asarray([0.1, 0.2, 0.3, 0.4])
    graph = check(with_head(lambda x: norm(nnx.relu(x))))
    after = operators(graph)[operators(graph).index("Relu") + 1 :]
    layout = ["Transpose", "Mul", "Add", "Transpose"]  # BatchNormalization is of NCHW
    assert after == [*layout, "Reshape", "Gemm", "Softmax"]


def test_layer_that_two_others_read_keeps_its_own_values():
    """The first reader's scale must not reach the second one."""
    layer = nnx.Conv(4, 4, (3, 3), rngs=nnx.Rngs(0))

    def function(x):
        hidden = layer(x)
        return 3 * hidden + nnx.relu(hidden)

    check(with_head(function))


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: jnp.cumsum(x, axis=1), "CumSum"),
        (nnx.ConvTranspose(4, 4, (2, 2), (2, 2), rngs=nnx.Rngs(0)), "ConvTranspose"),
        (lambda x: x * (x.argmax(-1, keepdims=True) > 1), "ArgMax"),
        (lambda x: x - x.mean(0, keepdims=True), "Shape"),
        (lambda x: x - x.max(0, keepdims=True), "ReduceMax of the batch"),
        (lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), "Cast of bfloat16"),
    ],
)
def test_operation_without_an_operator_is_named(function, named):
    with pytest.raises(UnsupportedError, match=named):
        graph_for(with_head(function), SHAPE)


def test_arithmetic_on_bytes_is_refused():
    """It wraps at 256 in JAX, and would not in float32."""
    with pytest.raises(UnsupportedError, match="Mul of uint8"):
        graph_for(lambda images: (images * 2).astype(jnp.float32).sum((1, 2)), SHAPE)


def test_conversion_leaves_flax_and_jax_as_they_were():
    modules = nnx, jnp, nnx.Dropout, nnx.Conv
    before = [dict(vars(module)) for module in modules]
    graph_for(user_model(1, 5), (16, 16, 1))
    for module, names in zip(modules, before, strict=True):
        assert {name: vars(module)[name] for name in names} == names


def test_conversion_does_not_import_what_jax2onnx_has_for_other_libraries():
    """These imports compile many networks."""
    graph_for(lambda images: images.reshape(-1, 4).astype(jnp.float32), (2, 2, 1))
    found = {name for name in sys.modules if name.startswith("jax2onnx.plugins.")}
    assert "jax2onnx.plugins.flax.nnx.linear" in found
    others = "jax2onnx.plugins.equinox.", "jax2onnx.plugins.examples."
    assert not [name for name in found if name.startswith(others)]


def test_same_network_gives_the_same_graph():
    first, second = (graph_for(user_model(1, 5), (16, 16, 1)) for _ in range(2))
    assert first.record() == second.record()
    for name, array in first.constants.items():
        assert array.tobytes() == second.constants[name].tobytes()


# What jax2onnx or a later version of it may write: x is Float [batch, 6, 8, 4], c is
# x as NCHW, k a kernel [5, 4, 3, 3], m a matrix [192, 7], b and v have 7 and 4 numbers.
FORMS = {
    "padding of the same size": 'y = Conv<auto_pad = "SAME_UPPER">(c, k)',
    "padding for strides": 'y = Conv<auto_pad = "SAME_UPPER", strides = [2, 3]>(c, k)',
    "padding at the start": 'y = Conv<auto_pad = "SAME_LOWER", strides = [2, 2]>(c, k)',
    "no padding": 'y = Conv<auto_pad = "VALID", dilations = [1, 2]>(c, k)',
    "pixels of padding": "y = Conv<pads = [0, 1, 2, 1]>(c, k)",
    "maximum": 'y = MaxPool<kernel_shape = [3, 2], auto_pad = "SAME_UPPER">(c)',
    "average": "y = AveragePool<kernel_shape = [2, 3], strides = [2, 1]>(c)",
    "average with padding": "y = AveragePool<kernel_shape = [2, 2], "
    "pads = [1, 0, 0, 1], count_include_pad = 1>(c)",
    "dense": "y = Gemm(f, m, b)",
    "dense with factors": "y = Gemm<alpha = 0.5, beta = 3.0>(f, m, b)",
    "dense with a scalar": "y = Gemm(f, m, one)",
    "dense without bias": "y = Gemm(f, m)",
    "dense with a transposed kernel": "t = Transpose<perm = [1, 0]>(m)\n"
    "y = Gemm<transB = 1>(f, t, b)",
    "product of matrices": 'y = Einsum<equation = "n h w c, c d -> n h w d">(x, w)',
    "batch norm": "y = BatchNormalization<epsilon = 0.1>(c, v, v, v, s)",
    "batch norm after a layer": "z = Gemm(f, m)\n"
    "y = BatchNormalization(z, b, b, b, b2)",
    "mean of three axes": "y = ReduceMean<keepdims = 0>(x, negative)",
    "mean with kept axes": "y = ReduceMean(x, negative)",
    "sum of squares": "y = ReduceSumSquare<keepdims = 0>(x, last)",
    "squeeze": "z = Unsqueeze(x, last)\ny = Squeeze(z, last)",
    "last axis": "y = Softmax<axis = -1>(x)",
    "concatenation": "y = Concat<axis = -2>(x, x)",
    "slice": "y = Slice(x, start, end, axes, steps)",
    "one bound": "y = Clip(x, one)",
    "two bounds": "y = Clip(x, minus, one)",
    "identity": "z = Identity(x)\ny = Dropout(z)",
    "leaky relu": "y = LeakyRelu<alpha = 0.2>(x)",
    "leaky relu with a large slope": "y = LeakyRelu<alpha = 1.5>(x)",
    "parametric relu": "y = PRelu(x, v)",
    "elu": "y = Elu<alpha = 1.5>(x)",
    "softplus": "h = Mul(x, hundred)\ny = Softplus(h)",
    "copies": "z = Shape(x)\ne = Expand(row, z)\ny = Add(x, e)",
    "constants": "k2 = Mul(v, v)\nk3 = Sqrt(k2)\nk4 = ReduceSum(k3)\ny = Mul(x, k4)",
    "shape of the batch": "n = Shape<end = 1>(x)\nz = Concat<axis = 0>(n, rest)\n"
    "y = Reshape(x, z)",
    "truths": "z = Greater(x, minus)\nw2 = Cast<to = 1>(z)\ny = Mul(w2, x)",
    "known choice": "z = Less(minus, one)\ny = Where(z, x, minus)",
    "images before numbers": "i = Transpose<perm = [0, 3, 2, 1]>(images)\n"
    "y = Cast<to = 1>(i)",
}
CONSTANTS = {
    "k": RNG.normal(size=(5, 4, 3, 3)),
    "m": RNG.normal(0, 0.1, (192, 7)),
    "b": RNG.normal(size=7) ** 2 + 0.1,
    "b2": np.linspace(0.5, 2, 7),
    "v": np.array([0.5, 0.1, 2, 0.3]),
    "s": np.array([1.0, 2, 0.5, 3]),
    "w": RNG.normal(size=(4, 3)),
    "row": RNG.normal(size=(1, 1, 8, 1)),
    "one": np.array(0.1),
    "minus": np.array(-0.2),
    "hundred": np.array(300.0),
    "negative": np.array([-1, 1, -2]),
    "last": np.array([-1]),
    "zero": np.array([0]),
    "low": np.array([0]),
    "high": np.array([1]),
    "rest": np.array([24, 8]),
    "start": np.array([-3, 1]),
    "end": np.array([100, -1]),
    "axes": np.array([-1, 1]),
    "steps": np.array([2, 3]),
}


def model_of(lines):
    """An ONNX model of these lines."""
    head = "(uint8[batch, 6, 8, 4] images) => (float[batch, classes] probabilities)"
    lines = f"""bytes = Cast<to = 1>(images)
        part = Div(bytes, large)
        x = Sub(part, half)
        c = Transpose<perm = [0, 3, 1, 2]>(x)
        f = Reshape(x, flat)
        {lines}
        probabilities = Flatten(y)"""
    text = "<ir_version: 8, opset_import: ['': 18]> network"
    model = parser.parse_model(f"{text} {head} {{ {lines} }}".replace("'", '"'))
    arrays = CONSTANTS | {"large": np.array(255.0), "half": np.array(0.5)}
    arrays |= {"flat": np.array([-1, 192])}
    for name, array in arrays.items():
        dtype = np.int64 if array.dtype.kind == "i" else np.float32
        model.graph.initializer.append(
            numpy_helper.from_array(array.astype(dtype), name)
        )
    return model


@pytest.mark.parametrize("name", FORMS)
def test_form_of_onnx_computes_what_onnxruntime_does(name):
    model, images = model_of(FORMS[name]), pictures()
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (expected,) = session.run(None, {"images": images})
    graph = graph_of(model)
    assert graph.nodes[0].op == "Cast"
    assert {node.op for node in graph.nodes} <= OPERATORS
    scale = max(1, np.abs(expected).max())
    found = np.broadcast_to(play(graph, images), expected.shape)
    np.testing.assert_allclose(found, expected, atol=2e-6 * scale)
    np.testing.assert_allclose(play_onnx(graph, images), expected, atol=2e-6 * scale)


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("y = Sinh(x)", "Sinh"),
        ("i = Cast<to = 6>(x)\ny = Cast<to = 1>(i)", "Cast of int32"),
        ("y = MaxPool<kernel_shape = [2, 2], ceil_mode = 1>(c)", "ceil_mode"),
        ("y = MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(c)", "dilations"),
        ("y = AveragePool<kernel_shape = [2, 2], pads = [1, 1, 0, 0]>(c)", "padding"),
        ("y = Max(x, x, x)", "Max of another number"),
        ("y = ReduceMax(x, zero)", "ReduceMax of the batch"),
        ("y = Slice(x, low, high, zero)", "Slice of another form"),
        ("z = Shape(x)\ne = Expand(row, z)\ny = Concat<axis = 1>(x, e)", "Concat of"),
    ],
)
def test_form_without_an_operator_is_named(lines, named):
    with pytest.raises(UnsupportedError, match=named):
        graph_of(model_of(lines))
