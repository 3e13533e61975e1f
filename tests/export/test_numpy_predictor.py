"""Each operator of the numpy predictor, compared with ONNX's reference."""

import math

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from src.export.graph import OPERATORS, Node
from src.export.onnx_file import OPSET, onnx_node
from src.export.shipped.numpy_predictor import run_graph, run_node
from tests.helpers.formats import graph_for, play
from tests.helpers.user_model import user_model

RNG = np.random.default_rng(0)


def some(*shape):
    return RNG.normal(size=shape).astype(np.float32)


IMAGES, VALUES = some(2, 4, 9, 8), some(2, 5, 6)
POSITIVE = np.abs(VALUES) + np.float32(0.1)
CONDITION, OTHER = VALUES > 0, some(2, 5, 6) > 0


def conv(kernel, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), group=1):
    attributes = {"strides": strides, "pads": pads, "dilations": dilations}
    return "Conv", [IMAGES, kernel, some(len(kernel))], attributes | {"group": group}


def pool(op, kernel_shape, strides, pads):
    attributes = {"kernel_shape": kernel_shape, "strides": strides, "pads": pads}
    count = {"count_include_pad": 1} if op == "AveragePool" else {}
    return op, [IMAGES], attributes | count


def reduction(op, axes, keepdims):
    return op, [VALUES], {"axes": axes, "keepdims": keepdims}


CASES = {
    "Conv": conv(some(6, 4, 3, 3)),
    "Conv, pads": conv(some(6, 4, 3, 2), pads=(0, 1, 2, 3)),
    "Conv, strides": conv(some(6, 4, 3, 3), strides=(2, 3), pads=(1, 1, 1, 1)),
    "Conv, strides without pads": conv(some(3, 4, 2, 2), strides=(2, 2)),
    "Conv, one pixel": conv(some(6, 4, 1, 1), strides=(2, 2)),
    "Conv, dilations": conv(some(6, 4, 3, 3), dilations=(2, 3)),
    "Conv, all": conv(some(6, 4, 3, 2), (2, 1), (2, 0, 1, 3), (2, 2)),
    "Conv, groups": conv(some(6, 2, 3, 3), group=2),
    "Conv, depthwise": conv(some(4, 1, 3, 3), (2, 2), (1, 1, 1, 1), group=4),
    "Conv, depthwise with two filters": conv(some(8, 1, 3, 3), group=4),
    "Conv, without bias": ("Conv", [IMAGES, some(3, 4, 3, 3)], conv(IMAGES)[2]),
    "Gemm": ("Gemm", [some(3, 5), some(5, 7), some(7)], {}),
    "MatMul": ("MatMul", [some(2, 3, 4, 5), some(5, 6)], {}),
    "MatMul, batches": ("MatMul", [some(2, 3, 4, 5), some(2, 3, 5, 6)], {}),
    **{
        f"{op}, shapes": (op, [some(2, 3, 4), some(1, 3, 1)], {})
        for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")
    },
    "Add, number": ("Add", [some(2, 3), np.array(0.5, np.float32)], {}),
    "Pow": ("Pow", [POSITIVE, np.array(1.5, np.float32)], {}),
    **{
        op: (op, [VALUES, VALUES[::-1].copy()], {})
        for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
    },
    "Equal, same": ("Equal", [VALUES, VALUES], {}),
    "And": ("And", [CONDITION, OTHER], {}),
    "Or": ("Or", [CONDITION, OTHER], {}),
    "Not": ("Not", [CONDITION], {}),
    "Where": ("Where", [CONDITION, VALUES, np.array(0.5, np.float32)], {}),
    **{
        op: (op, [VALUES * np.float32(3)], {})
        for op in ("Relu", "Sigmoid", "Tanh", "Erf", "Exp", "Abs", "Neg")
    },
    "Log": ("Log", [POSITIVE], {}),
    "Sqrt": ("Sqrt", [POSITIVE], {}),
    "Clip": ("Clip", [VALUES], {"min": -0.5, "max": 0.25}),
    "Cast": ("Cast", [IMAGES.astype(np.uint8)], {"to": "float32"}),
    "Cast, conditions": ("Cast", [CONDITION], {"to": "float32"}),
    "MaxPool": pool("MaxPool", (2, 2), (2, 2), (0, 0, 0, 0)),
    "MaxPool, pads": pool("MaxPool", (3, 2), (2, 1), (1, 0, 2, 1)),
    "AveragePool": pool("AveragePool", (2, 2), (2, 2), (0, 0, 0, 0)),
    "AveragePool, pads": pool("AveragePool", (3, 3), (2, 2), (0, 1, 1, 2)),
    **{
        f"{op}, {axes}, {keep}": reduction(op, axes, keep)
        for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
        for axes, keep in (([1], 0), ([1, 2], 1))
    },
    "Reshape": ("Reshape", [VALUES], {"shape": [-1, 3, 10]}),
    "Transpose": ("Transpose", [IMAGES], {"perm": [0, 2, 3, 1]}),
    "Concat": ("Concat", [some(2, 3, 4), some(2, 1, 4), some(2, 2, 4)], {"axis": 1}),
    "Pad": ("Pad", [VALUES], {"pads": [0, 1, 0, 0, 2, 3], "value": -1.5}),
    "Slice": (
        "Slice",
        [IMAGES],
        {"axes": [1, 3], "starts": [1, 0], "ends": [4, 7], "steps": [2, 3]},
    ),
    "Softmax": ("Softmax", [VALUES * np.float32(30)], {"axis": 2}),
    "Softmax, inner axis": ("Softmax", [VALUES], {"axis": 1}),
}


def by_reference(op, inputs, attributes):
    """The value that ONNX's reference gives."""
    names = [f"input_{index}" for index in range(len(inputs))]
    constants = {}
    node = onnx_node(Node(op, tuple(names), "output", attributes), constants)
    given = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in zip(names, inputs, strict=True)
    ]
    answer = helper.make_tensor_value_info("output", TensorProto.UNDEFINED, None)
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([node], "one", given, [answer], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    values = dict(zip(names, inputs, strict=True))
    return ReferenceEvaluator(model).run(None, values)[0]


@pytest.mark.parametrize("name", CASES)
def test_operator_equals_the_reference_of_onnx(name):
    op, inputs, attributes = CASES[name]
    expected = by_reference(op, inputs, attributes)
    found = run_node(op, inputs, attributes)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_every_operator_is_tested():
    assert {op for op, _, _ in CASES.values()} == OPERATORS


def test_error_function_is_exact_to_float32():
    values = np.linspace(-6, 6, 2001).astype(np.float32)
    expected = [math.erf(value) for value in values.tolist()]
    np.testing.assert_allclose(run_node("Erf", [values], {}), expected, atol=4e-7)


def test_sigmoid_of_large_numbers_does_not_overflow():
    values = np.array([-1000, 1000], np.float32)
    with np.errstate(all="raise"):
        assert run_node("Sigmoid", [values], {}).tolist() == [0, 1]


def test_unknown_operator_is_named():
    with pytest.raises(ValueError, match="LSTM: unknown operator"):
        run_node("LSTM", [VALUES], {})


@pytest.mark.slow
def test_graph_runs_in_the_precision_of_its_constants():
    graph = graph_for(user_model(1, 5), (16, 16, 1))
    images = RNG.integers(0, 256, (3, 16, 16, 1), dtype=np.uint8)
    exact = {name: array.astype(np.float64) for name, array in graph.constants.items()}
    found = run_graph(graph.record(), exact, images)
    assert found.dtype == np.float64
    np.testing.assert_allclose(play(graph, images), found, atol=1e-6)
    assert np.any(play(graph, images) != found)


def test_values_are_freed_after_their_last_reader():
    """A network of many layers needs the memory of a few."""
    nodes = [
        {"op": "Neg", "inputs": [before], "output": after, "attributes": {}}
        for before, after in (("a", "b"), ("b", "c"), ("c", "d"))
    ]
    nodes.append({"op": "Add", "inputs": ["d", "d"], "output": "e", "attributes": {}})
    graph = {"input": "a", "output": "e", "nodes": nodes}
    assert run_graph(graph, {}, np.ones(3)).tolist() == [-2, -2, -2]
