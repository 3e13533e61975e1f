"""Folds scales and shifts, such as BatchNorm's, into the layer before them."""

from collections import Counter

import numpy as np

from src.export.graph import Node
from src.export.shipped.numpy_predictor import run_node

# The axis of outputs in a layer's kernel, and the shape of one number per output.
LAYERS = {"Conv": (0, (1, -1, 1, 1)), "Gemm": (1, (1, -1))}
Constants = dict[str, np.ndarray]


def fold(nodes: list[Node], constants: Constants) -> list[Node]:
    """The nodes; products and sums with constants after a layer are part of it.

    Args:
        nodes: in order.
        constants: by name; new kernels and biases are added in float64.
    """
    readers = Counter(name for node in nodes for name in node.inputs)
    layers: dict[str, int] = {}  # places in `kept`, by result
    kept: list[Node] = []
    for node in nodes:
        before = [name for name in node.inputs if name in layers]
        folded = None
        if len(before) == 1 and readers[before[0]] == 1:
            folded = fold_into(kept[layers[before[0]]], node, constants)
        if folded:
            layers[node.output] = layers[before[0]]
            kept[layers[node.output]] = folded
            continue
        if node.op in LAYERS:
            layers[node.output] = len(kept)
        kept.append(node)
    return kept


def fold_into(layer: Node, node: Node, constants: Constants) -> Node | None:
    """The layer with the node in its kernel and bias; None if that is impossible."""
    inverse = node.op == "Div" and node.inputs[0] != layer.output
    others = set(node.inputs) - {layer.output}
    if node.op not in ("Add", "Sub", "Mul", "Div") or inverse or others - {*constants}:
        return None
    value, kernel_name, *bias_name = layer.inputs
    kernel_axis, shape = LAYERS[layer.op]
    kernel = np.moveaxis(constants[kernel_name].astype(np.float64), kernel_axis, -1)
    # The node is affine: its results for 0 and 1 tell the shift and the scale.
    zeros = np.zeros(kernel.shape[-1]).reshape(shape)
    shift, result = (
        run_node(node.op, [constants.get(name, probe) for name in node.inputs], {})
        for probe in (zeros, zeros + 1)
    )
    if shift.shape != zeros.shape:  # not one number for each output
        return None
    scale, shift = (result - shift).ravel(), shift.ravel()
    bias = constants[bias_name[0]] if bias_name else zeros.ravel()
    names = f"{node.output} kernel", f"{node.output} bias"
    constants[names[0]] = np.moveaxis(kernel * scale, -1, kernel_axis)
    constants[names[1]] = bias * scale + shift
    return layer._replace(inputs=(value, *names), output=node.output)
