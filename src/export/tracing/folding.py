"""Folds scales and shifts, such as BatchNorm's, into the layer before them.

In `eval` mode, BatchNorm is a subtraction, a product and an addition of constants. A
chain of such nodes after a convolution or dense layer becomes part of its kernel and
bias. Any other chain becomes one product and one addition. (OpenCV 4 crashes on GELU's
tanh where an addition comes before a product.)
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from src.export.graph import Graph, Node
from src.export.tracing.builder import Axes, Builder

# The axis of outputs in the stored result, by operator; and in the kernel.
LINEAR = {"Conv": (1, 0), "Gemm": (1, 1)}


class Affine(NamedTuple):
    """`value * scale + shift`, in float64; both broadcast to the value's shape."""

    value: str
    scale: np.ndarray
    shift: np.ndarray


def fold(builder: Builder, answer: str, name: str) -> Graph:
    """The builder's graph, folded and without unused nodes and constants.

    Args:
        builder: has emitted all nodes.
        answer: the value that the graph returns.
        name: its name in the graph.
    """
    nodes = fold_chains(used(builder.nodes, answer), builder)
    nodes = used(nodes, answer)
    renamed = [
        node._replace(output=name) if node.output == answer else node for node in nodes
    ]
    wanted = {given for node in renamed for given in node.inputs}
    constants = {
        each: array for each, array in builder.constants.items() if each in wanted
    }
    return Graph(renamed, constants)


def used(nodes: list[Node], answer: str) -> list[Node]:
    """The nodes that the answer needs, in order."""
    needed, kept = {answer}, []
    for node in reversed(nodes):
        if node.output in needed:
            needed |= set(node.inputs)
            kept.append(node)
    return kept[::-1]


def fold_chains(nodes: list[Node], builder: Builder) -> list[Node]:
    """The nodes with each chain of scales and shifts folded."""
    readers = Counter(name for node in nodes for name in node.inputs)
    by_output = {node.output: node for node in nodes}
    merged: dict[str, Affine] = {}  # by the output of the chain's last node so far
    lengths: Counter[str] = Counter()
    for node in nodes:
        affine = as_affine(node, builder.constants, builder.shapes)
        if affine is None:
            continue
        before = merged.get(affine.value)
        if before and readers[affine.value] == 1:
            shift = before.shift * affine.scale + affine.shift
            scale = before.scale * affine.scale
            lengths[node.output] = lengths.pop(affine.value) + 1
            del merged[affine.value]
            affine = Affine(before.value, scale, shift)
        else:
            lengths[node.output] = 1
        merged[node.output] = affine
    replaced: dict[str, list[Node]] = {}
    for output, affine in merged.items():
        source = by_output.get(affine.value)
        if source and source.op in LINEAR and readers[affine.value] == 1:
            folded = fold_linear(source, affine, output, builder)
            if folded:
                replaced[output] = [folded]
                continue
        if lengths[output] > 1:
            replaced[output] = scale_and_shift(affine, output, builder)
    result: list[Node] = []
    for node in nodes:
        result += replaced.get(node.output, [node])
    return result


def as_affine(
    node: Node, constants: Mapping[str, np.ndarray], shapes: Mapping[str, Axes]
) -> Affine | None:
    """A node as scale and shift, with one number per channel or for all."""
    if node.op not in ("Add", "Sub", "Mul", "Div"):
        return None
    first, second = node.inputs
    at_end = second in constants
    value, name = (first, second) if at_end else (second, first)
    if name not in constants or value in constants:
        return None
    array = constants[name].astype(np.float64)
    if (
        sum(size > 1 for size in array.shape) > 1
        or shapes[value] != shapes[node.output]
    ):
        return None
    one, zero = np.ones_like(array), np.zeros_like(array)
    match node.op, at_end:
        case "Add", _:
            return Affine(value, one, array)
        case "Mul", _:
            return Affine(value, array, zero)
        case "Sub", True:
            return Affine(value, one, -array)
        case "Sub", False:
            return Affine(value, -one, array)
        case "Div", True:
            return Affine(value, one / array, zero)
    return None


def fold_linear(
    layer: Node, affine: Affine, output: str, builder: Builder
) -> Node | None:
    """The layer with the scale in its kernel and the shift in its bias.

    None if the numbers are not one per output of the layer.
    """
    outputs_axis, kernel_axis = LINEAR[layer.op]
    kernel = builder.constants[layer.inputs[1]].astype(np.float64)
    outputs, rank = kernel.shape[kernel_axis], kernel.ndim
    per_output = []
    for array in (affine.scale, affine.shift):
        if array.ndim and (
            array.ndim != rank or array.size != array.shape[outputs_axis]
        ):
            return None
        per_output.append(np.broadcast_to(array.ravel(), outputs))
    scale, shift = per_output
    shape = [1] * rank
    shape[kernel_axis] = outputs
    bias = (
        builder.constants[layer.inputs[2]].astype(np.float64)
        if len(layer.inputs) == 3
        else np.zeros(outputs)
    )
    names = (
        builder.constant(kernel * scale.reshape(shape)),
        builder.constant(bias * scale + shift),
    )
    return layer._replace(inputs=(layer.inputs[0], *names), output=output)


def scale_and_shift(affine: Affine, output: str, builder: Builder) -> list[Node]:
    """A product and an addition."""
    scaled = f"{output}_scaled"
    scale, shift = builder.constant(affine.scale), builder.constant(affine.shift)
    return [
        Node("Mul", (affine.value, scale), scaled, {}),
        Node("Add", (scaled, shift), output, {}),
    ]
