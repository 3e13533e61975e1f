"""Brings the ONNX model of a network, as jax2onnx makes it, into `graph`.

Shapes that were computed from the batch size become constants, and so does what has
constant inputs. `onnx_forms` has the forms of operators.
"""

from collections.abc import Iterable

import numpy as np

from src.export.folding import fold
from src.export.graph import INPUT, OUTPUT, Graph, UnsupportedError
from src.export.jax_to_onnx import Proto
from src.export.onnx_forms import BROADCASTING, FORMS, MOVING, RESHAPING
from src.export.onnx_values import Values, call_of


def graph_of(model: Proto) -> Graph:
    """The graph of an ONNX model; scales and shifts are folded into layers.

    Args:
        model: of jax2onnx, with uint8 images `INPUT` and probabilities `OUTPUT`.

    Raises:
        UnsupportedError: an operator has no form in `graph`.
    """
    values = Values(model)
    values.alias[INPUT] = values.emit("Cast", INPUT, to="float32")
    for node in needed(model.graph.node):
        read(values, node)
    return renamed(values)


def needed(nodes: Iterable[Proto]) -> list[Proto]:
    """The nodes that the answer needs, except the ones for shapes."""
    wanted, kept = {OUTPUT}, []
    for node in reversed(list(nodes)):
        if wanted & set(node.output):
            wanted |= set(node.input[:1] if node.op_type in RESHAPING else node.input)
            kept.append(node)
    return kept[::-1]


def read(values: Values, node: Proto) -> None:
    """Emits the form of a node, or computes its constant results."""
    from onnx import TensorProto

    op, form = node.op_type, FORMS.get(node.op_type)
    inputs = values.sources(node.input[:1] if op in RESHAPING else node.input)
    if op not in RESHAPING and set(inputs) <= values.constants.keys():
        values.compute(node)
        return
    if form is None:
        raise UnsupportedError(op)
    if values.thin & set(inputs) and form not in BROADCASTING:
        raise UnsupportedError(f"{op} of a constant that is copied for each image")
    kind = values.kind(node.output[0])
    if kind not in (TensorProto.FLOAT, TensorProto.BOOL) and op not in MOVING:
        raise UnsupportedError(f"{op} of {TensorProto.DataType.Name(kind).lower()}")
    form(call_of(values, node, inputs))


def renamed(values: Values) -> Graph:
    """The folded graph, with names that tell an operator and its place."""
    nodes = fold(values.nodes, values.constants)
    names = {node.output: f"{node.op.lower()}_{i}" for i, node in enumerate(nodes)}
    (answer,) = values.sources([OUTPUT])
    names |= {INPUT: INPUT, answer: OUTPUT}
    stored: dict[str, np.ndarray] = {}
    for index, node in enumerate(nodes):
        for name in node.inputs:
            if name not in names:
                names[name] = f"constant_{len(stored)}"
                stored[names[name]] = as_float32(values.constants[name])
        inputs = tuple(names[name] for name in node.inputs)
        nodes[index] = node._replace(inputs=inputs, output=names[node.output])
    return Graph(nodes, stored)


def as_float32(array: np.ndarray) -> np.ndarray:
    """A constant as the players have it."""
    if array.dtype == bool:
        raise UnsupportedError("a constant condition")
    return np.ascontiguousarray(array, np.float32).reshape(array.shape)
