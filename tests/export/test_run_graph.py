"""The demo page's operators in a real browser, compared with onnxruntime."""

import numpy as np
import pytest

from src.export.demo_page import PLAYER
from src.export.demo_weights import (
    decode_array,
    encode_exact,
    encode_rounded,
    round_array,
)
from src.export.graph import OPERATORS
from tests.helpers.browser import play_in_browser
from tests.helpers.graphs import Case, expected_output

RNG = np.random.default_rng(0)


def floats(*shape, scale=1.0):
    return np.asarray(RNG.normal(0, scale, shape), np.float32)


def positive(*shape):
    return np.asarray(np.abs(floats(*shape)) + 0.1, np.float32)


def truths(*shape):
    return RNG.integers(0, 2, shape).astype(np.float32)


def few(*shape):
    """Numbers of which many are equal."""
    return RNG.integers(0, 3, shape).astype(np.float32)


NO_PADS = 0, 0, 0, 0


def convolution(image, kernel, *, bias=True, strides=(1, 1), pads=NO_PADS, **other):
    attributes = {"dilations": [1, 1], "group": 1} | other
    attributes |= {"strides": list(strides), "pads": list(pads)}
    inputs = [floats(*image), floats(*kernel)] + [floats(kernel[0])] * bias
    return Case("Conv", inputs, attributes)


def pool(op, image, kernel, strides, pads=NO_PADS):
    attributes = {"kernel_shape": list(kernel), "strides": list(strides)}
    return Case(op, [floats(*image)], attributes | {"pads": list(pads)})


def mean_pool(*arguments):
    case = pool("AveragePool", *arguments)
    return case._replace(attributes=case.attributes | {"count_include_pad": 1})


UNARY = ["Abs", "Erf", "Exp", "Neg", "Relu", "Sigmoid", "Tanh"]
BINARY = ["Add", "Div", "Max", "Min", "Mul", "Sub"]
COMPARING = ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]
REDUCING = ["Max", "Mean", "Min", "Sum"]
BROADCAST = [
    ((2, 3, 4, 5), (2, 3, 4, 5)),
    ((2, 3, 4, 5), ()),
    ((2, 3, 4, 5), (1, 3, 1, 1)),
    ((2, 1, 4, 1), (3, 1, 5)),
    ((5,), (4, 1)),
]
CASES = [
    *(Case(op, [floats(2, 3, 4, scale=3)]) for op in UNARY),
    *(Case(op, [positive(2, 3, 4)]) for op in ("Log", "Sqrt")),
    Case("Erf", [np.linspace(-6, 6, 97, dtype=np.float32)]),
    Case("Cast", [RNG.integers(0, 256, (2, 3)).astype(np.float32)], {"to": "float32"}),
    Case("Clip", [floats(9, scale=5)], {"min": 0.0, "max": 6.0}),
    Case("Not", [truths(3, 4)]),
    *(Case(op, [truths(3, 4), truths(4)]) for op in ("And", "Or")),
    *(Case(op, [floats(*a), positive(*b)]) for op in BINARY for a, b in BROADCAST),
    Case("Pow", [positive(2, 3), floats(3)]),
    Case("Pow", [floats(2, 3), np.array(3, np.float32)]),
    *(Case(op, [few(4, 5), few(5)]) for op in COMPARING),
    Case("Where", [truths(2, 1, 4), floats(3, 1), floats(1)]),
    convolution((2, 3, 6, 7), (8, 3, 3, 3), pads=(1, 1, 1, 1)),
    convolution((1, 3, 6, 7), (5, 3, 3, 3), bias=False),
    convolution((1, 4, 9, 8), (6, 4, 3, 3), strides=(2, 2), pads=(0, 0, 1, 1)),
    convolution((2, 4, 7, 7), (4, 4, 1, 1), strides=(2, 3)),
    convolution((1, 2, 5, 6), (3, 2, 2, 4), pads=(0, 1, 1, 2)),
    convolution((1, 4, 9, 9), (4, 4, 3, 3), dilations=[2, 3], pads=(2, 3, 2, 3)),
    convolution((2, 6, 5, 5), (6, 1, 3, 3), group=6, pads=(1, 1, 1, 1)),
    convolution((2, 6, 5, 5), (12, 1, 3, 3), group=6, pads=(1, 1, 1, 1)),
    convolution((2, 6, 5, 5), (10, 3, 3, 3), group=2, pads=(1, 1, 1, 1)),
    convolution((1, 40, 33, 30), (7, 40, 7, 7), strides=(2, 1), pads=(3, 3, 3, 3)),
    Case("Gemm", [floats(3, 7), floats(7, 5), floats(5)]),
    Case("Gemm", [floats(1, 7), floats(7, 5), floats(5)]),
    Case("MatMul", [floats(9, 7), floats(7, 6)]),
    Case("MatMul", [floats(2, 3, 5, 4), floats(4, 6)]),
    Case("MatMul", [floats(2, 3, 5, 4), floats(3, 4, 6)]),
    Case("MatMul", [floats(5, 4), floats(2, 4, 3)]),
    pool("MaxPool", (2, 3, 7, 8), (2, 2), (2, 2)),
    pool("MaxPool", (2, 3, 7, 8), (3, 3), (2, 2), (0, 1, 1, 1)),
    pool("MaxPool", (1, 2, 6, 6), (3, 2), (1, 3), (1, 1, 1, 0)),
    mean_pool((2, 3, 7, 8), (2, 2), (2, 2)),
    mean_pool((2, 3, 7, 8), (3, 3), (2, 2), (1, 1, 1, 1)),
    *(
        Case(f"Reduce{name}", [floats(2, 3, 4, 5)], {"axes": axes, "keepdims": keep})
        for name in REDUCING
        for axes, keep in (([1], 1), ([2, 3], 0), ([1, 3], 1))
    ),
    Case("Reshape", [floats(2, 3, 4)], {"shape": [-1, 12]}),
    Case("Reshape", [floats(2, 12)], {"shape": [-1, 2, 3, 2]}),
    Case("Reshape", [floats(2, 3, 4)], {"shape": [3, -1, 2]}),
    Case("Transpose", [floats(2, 3, 4, 5)], {"perm": [0, 3, 1, 2]}),
    Case("Transpose", [floats(2, 3, 4)], {"perm": [2, 0, 1]}),
    Case("Concat", [floats(2, 3, 4), floats(2, 1, 4), floats(2, 2, 4)], {"axis": 1}),
    Case("Concat", [floats(2, 3), floats(2, 4)], {"axis": 1}),
    Case("Pad", [floats(2, 3, 4)], {"pads": [0, 1, 0, 0, 2, 3], "value": 1.5}),
    Case(
        "Slice",
        [floats(2, 7, 6)],
        {"axes": [1, 2], "starts": [1, 0], "ends": [7, 5], "steps": [2, 1]},
    ),
    Case("Softmax", [floats(3, 10, scale=4)], {"axis": 1}),
    Case("Softmax", [floats(2, 3, 4, 5) + 500], {"axis": 1}),
]


# In the first, each row has its scale, in the second each column.
ROUNDED = [
    floats(40, 5, 6, 3) * np.exp(floats(40, 1, 1, 1)),
    floats(60, 70) * np.exp(floats(70)),
]


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """What the page's player makes of all cases, and of zeros plus 16-bit weights."""
    graphs = [(c.record, encode_exact(c.constants), c.inputs[0]) for c in CASES]
    for array in ROUNDED:
        add = Case("Add", [np.zeros(array.shape), array])
        graphs.append((add.record, encode_rounded(add.constants), add.inputs[0]))
    return play_in_browser(PLAYER, graphs, tmp_path_factory.mktemp("player"))


@pytest.mark.parametrize("op", sorted(OPERATORS))
def test_operator_computes_what_onnxruntime_does(played, op):
    of_op = [pair for pair in zip(CASES, played, strict=False) if pair[0].op == op]
    assert of_op
    for case, found in of_op:
        expected = expected_output(case)
        assert found.shape == expected.shape, case.attributes
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * scale)


def test_page_decodes_weights_of_16_bits_as_python_does(played):
    for array, found in zip(ROUNDED, played[len(CASES) :], strict=True):
        expected = decode_array(round_array(array))
        np.testing.assert_array_equal(found, expected)
        assert 0 < np.abs(expected - array).max() < 2e-5 * np.abs(array).max()
