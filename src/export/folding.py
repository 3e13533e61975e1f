"""Folds scales and shifts, such as BatchNorm's, into the layer before them.

Others become one product and one sum, in this order: OpenCV 4 crashes on GELU's tanh
where the sum comes first.
"""

from collections import Counter

import numpy as np

from src.export.graph import Node
from src.export.shipped.numpy_predictor import run_node

# The axis of outputs in a layer's kernel, and the shape of one number per output.
LAYERS = {"Conv": (0, (1, -1, 1, 1)), "Gemm": (1, (1, -1))}
Constants = dict[str, np.ndarray]


def fold(nodes: list[Node], constants: Constants) -> list[Node]:
    """The nodes, with each chain of sums and products with constants folded.

    Args:
        nodes: in order.
        constants: by name; new ones are added in float64.
    """
    readers = Counter(name for node in nodes for name in node.inputs)
    followers = {
        value: node
        for node in nodes
        if readers[value := scaled_value(node, constants)] == 1
    }
    folded: set[str] = set()
    kept: list[Node] = []
    for node in nodes:
        if node.output in folded:
            continue
        chain: list[Node] = []
        value = node.output
        (chain if scaled_value(node, constants) else kept).append(node)
        while value in followers:
            chain.append(followers[value])
            value = followers[value].output
        folded |= {each.output for each in chain}
        layer = fold_into(node, chain, constants) if chain else None
        if layer:
            kept[-1] = layer
        elif len(chain) > 1:
            kept += scale_and_shift(chain, constants)
        else:
            kept += chain
    return kept


def scaled_value(node: Node, constants: Constants) -> str:
    """The input that a node scales and shifts by a constant; "" if it does not."""
    values = [name for name in node.inputs if name not in constants]
    inverse = node.op == "Div" and node.inputs[1:] == tuple(values)
    if node.op not in ("Add", "Sub", "Mul", "Div") or inverse or len(values) != 1:
        return ""
    return values[0]


def shift_and_scale(
    chain: list[Node], constants: Constants, zeros: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What a chain makes of zeros, and by how much more it makes of ones."""
    results = []
    for value in (zeros, zeros + 1):
        for node in chain:
            inputs = [constants.get(name, value) for name in node.inputs]
            value = run_node(node.op, inputs, {})
        results.append(value)
    return results[0], results[1] - results[0]


def fold_into(layer: Node, chain: list[Node], constants: Constants) -> Node | None:
    """The layer with the chain in its kernel and bias; None if that is impossible."""
    if layer.op not in LAYERS:
        return None
    value, kernel_name, *bias_name = layer.inputs
    axis, shape = LAYERS[layer.op]
    kernel = np.moveaxis(constants[kernel_name].astype(np.float64), axis, -1)
    zeros = np.zeros(kernel.shape[-1]).reshape(shape)
    shift, scale = shift_and_scale(chain, constants, zeros)
    if shift.shape != zeros.shape:  # not one number for each output
        return None
    bias = constants[bias_name[0]] if bias_name else zeros.ravel()
    output = chain[-1].output
    names = f"{output} kernel", f"{output} bias"
    constants[names[0]] = np.moveaxis(kernel * scale.ravel(), -1, axis)
    constants[names[1]] = bias * scale.ravel() + shift.ravel()
    return layer._replace(inputs=(value, *names), output=output)


def scale_and_shift(chain: list[Node], constants: Constants) -> list[Node]:
    """A product and a sum in place of a chain."""
    output = chain[-1].output
    names = f"{output} shift", f"{output} scale"
    numbers = shift_and_scale(chain, constants, np.zeros(()))
    constants |= dict(zip(names, numbers, strict=True))
    value, scaled = scaled_value(chain[0], constants), f"{output} scaled"
    return [
        Node("Mul", (value, names[1]), scaled, {}),
        Node("Add", (scaled, names[0]), output, {}),
    ]
