"""Graphs as manifest.json has them: of one operator, and of small networks."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from flax import nnx
from onnx import TensorProto, ValueInfoProto, helper

from src.models.plain import plain_model
from tests.helpers.formats import graph_for

OPSET = 17
# Attributes of a player's node that ONNX takes as inputs, in ONNX's order.
AS_INPUTS = {
    "Clip": ("min", "max"),
    "Pad": ("pads", "value"),
    "ReduceSum": ("axes",),
    "Reshape": ("shape",),
    "Slice": ("starts", "ends", "axes", "steps"),
}
FLOATS = ("min", "max", "value")
LOGICAL = ("And", "Or", "Not", "Where")  # their inputs, or the first, are boolean


class Case(NamedTuple):
    """One operator with its operands."""

    op: str
    inputs: list[np.ndarray]  # the first is the graph's input, the others constants
    attributes: Mapping[str, Any] = MappingProxyType({})

    @property
    def record(self) -> dict[str, Any]:
        """The graph as in manifest.json."""
        names = [f"x{index}" for index in range(len(self.inputs))]
        node = {"op": self.op, "inputs": names, "output": "y"}
        node["attributes"] = dict(self.attributes)
        return {"input": "x0", "output": "y", "nodes": [node]}

    @property
    def constants(self) -> dict[str, np.ndarray]:
        """The operands after the first, by name."""
        return {f"x{index}": array for index, array in enumerate(self.inputs) if index}


def expected_output(case: Case) -> np.ndarray:
    """What onnxruntime makes of a case, as float32."""
    inputs = {f"x{index}": as_onnx(case, index) for index in range(len(case.inputs))}
    attributes = dict(case.attributes)
    for name in AS_INPUTS.get(case.op, ()):
        dtype = np.float32 if name in FLOATS else np.int64
        inputs[name] = np.array(attributes.pop(name), dtype)
    if case.op == "Cast":
        attributes["to"] = TensorProto.FLOAT
    node = helper.make_node(case.op, list(inputs), ["y"], **attributes)
    given = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in inputs.items()
    ]
    graph = helper.make_graph([node], "case", given, [ValueInfoProto(name="y")])
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (output,) = session.run(None, inputs)
    return output.astype(np.float32)


def as_onnx(case: Case, index: int) -> np.ndarray:
    """An operand with the type that ONNX demands."""
    boolean = case.op in LOGICAL and (case.op != "Where" or index == 0)
    return np.asarray(case.inputs[index], bool if boolean else np.float32)


def dense_network(
    shape: tuple[int, int, int], classes: int, units: int = 16
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The graph and constants of a network with one hidden layer and random weights."""
    rng = np.random.default_rng(1)
    pixels = int(np.prod(shape))
    chain: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Cast", [], {"to": "float32"}),
        ("Div", ["scale"], {}),
        ("Reshape", [], {"shape": [-1, pixels]}),
        ("Gemm", ["kernel1", "bias1"], {}),
        ("Relu", [], {}),
        ("Gemm", ["kernel2", "bias2"], {}),
        ("Softmax", [], {"axis": 1}),
    ]
    names = ["images", *(f"hidden{index}" for index in range(6)), "probabilities"]
    nodes = [
        {"op": op, "inputs": [x, *given], "output": y, "attributes": attributes}
        for (op, given, attributes), x, y in zip(
            chain, names[:-1], names[1:], strict=True
        )
    ]
    constants = {
        "scale": np.array(255.0),
        "kernel1": rng.normal(0, 2 / np.sqrt(max(pixels, 100)), (pixels, units)),
        "bias1": rng.normal(0, 0.2, units),
        "kernel2": rng.normal(0, 0.2, (units, classes)),
        "bias2": rng.normal(0, 0.2, classes),
    }
    graph = {"input": names[0], "output": names[-1], "nodes": nodes}
    return graph, {name: array.astype(np.float32) for name, array in constants.items()}


def graph_and_constants(
    model: nnx.Module, shape: tuple[int, int, int]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The graph and constants of a model, as export makes them."""
    graph = graph_for(plain_model(model), shape)
    return graph.record(), graph.constants
