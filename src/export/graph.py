"""The network as a graph of ONNX operators: a small set with one form for each.

jax2onnx converts the network's own `__call__`. The graph becomes `model.onnx`, and
manifest.json stores it for the numpy predictor and the demo page, which play it.
Every operator has the meaning of ONNX opset 17. The forms are narrower than ONNX's:
explicit padding, no negative axis, no shape that is computed, one output.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

INPUT, OUTPUT = "images", "probabilities"
OPERATORS = frozenset(
    {
        "Cast",
        "Conv",
        "Gemm",
        "MatMul",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Max",
        "Min",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Equal",
        "And",
        "Or",
        "Not",
        "Where",
        "Relu",
        "Sigmoid",
        "Tanh",
        "Erf",
        "Exp",
        "Log",
        "Sqrt",
        "Abs",
        "Neg",
        "Clip",
        "MaxPool",
        "AveragePool",
        "ReduceMean",
        "ReduceSum",
        "ReduceMax",
        "ReduceMin",
        "Reshape",
        "Transpose",
        "Concat",
        "Pad",
        "Slice",
        "Softmax",
    }
)


class UnsupportedError(Exception):
    """No operator stands for an operation of the network; the message names it."""


class Node(NamedTuple):
    """One operation."""

    op: str  # of `OPERATORS`
    inputs: tuple[str, ...]  # names of values and constants
    output: str
    attributes: Mapping[str, Any]


class Graph(NamedTuple):
    """A network. Nodes are in order of execution."""

    nodes: list[Node]
    constants: dict[str, np.ndarray]  # float32, by name

    def record(self) -> dict[str, Any]:
        """The graph as in manifest.json, without the constants."""
        nodes = [{**node._asdict(), "inputs": list(node.inputs)} for node in self.nodes]
        return {"input": INPUT, "output": OUTPUT, "nodes": nodes}
