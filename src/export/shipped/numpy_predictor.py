"""Runs an exported network with NumPy alone.

    from numpy_predictor import load_predictor
    classify = load_predictor(".")  # the folder with manifest.json and constants.npz
    probabilities = classify(images)

`graph` in manifest.json lists the operators of the network, with the meaning that they
have in ONNX opset 17. A convolution is one matrix product over all patches, in float32.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PIXELS = 64 * 28 * 28  # per pass, of all its images: limits memory

ELEMENTWISE: dict[str, Callable[..., np.ndarray]] = {
    **{"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide},
    **{"Pow": np.power, "Max": np.maximum, "Min": np.minimum, "MatMul": np.matmul},
    **{"Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Less": np.less},
    **{"LessOrEqual": np.less_equal, "Equal": np.equal, "Where": np.where},
    **{"And": np.logical_and, "Or": np.logical_or, "Not": np.logical_not},
    **{"Tanh": np.tanh, "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt},
    **{"Abs": np.abs, "Neg": np.negative, "Relu": lambda value: np.maximum(value, 0)},
    **{"Sigmoid": lambda value: 0.5 * np.tanh(0.5 * value) + 0.5},
    **{"Erf": lambda value: error_function(value)},
}
REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    **{"ReduceSum": np.sum, "ReduceMean": np.mean},
    **{"ReduceMax": np.max, "ReduceMin": np.min},
}
# erf(x) is nearly x P(x²) / Q(x²) for |x| < 4: coefficients of Eigen, highest first.
ERF_ABOVE = (
    *(-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06),
    *(-5.69250639462346e-05, -7.34990630326855e-04, -2.95459980854025e-03),
    -1.60960333262415e-02,
)
ERF_BELOW = (
    *(-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03),
    *(-7.37332916720468e-03, -1.42647390514189e-02),
)


def load_predictor(folder: str | Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads the network as a function.

    Args:
        folder: contains manifest.json and constants.npz.

    Returns:
        Uint8 `[n, height, width, channels]` to float32 probabilities `[n, classes]`.
        It raises ValueError for other images.
    """
    manifest = json.loads(Path(folder, "manifest.json").read_text("utf-8"))
    graph, expected = manifest["graph"], manifest["input"]["shape"][1:]
    with np.load(Path(folder, "constants.npz"), allow_pickle=False) as file:
        constants = {name: file[name] for name in file.files}
    per_pass = max(1, PIXELS // (expected[0] * expected[1]))

    def classify(images: np.ndarray) -> np.ndarray:
        if images.dtype != np.uint8 or list(images.shape[1:]) != expected:
            raise ValueError(
                f"expected images of uint8 {expected}, found {images.dtype} "
                f"{list(images.shape[1:])}"
            )
        starts = range(0, len(images), per_pass)
        slices = [images[start : start + per_pass] for start in starts]
        return np.concatenate([run_graph(graph, constants, each) for each in slices])

    return classify


def run_graph(
    graph: Mapping[str, Any], constants: Mapping[str, np.ndarray], images: np.ndarray
) -> np.ndarray:
    """Probabilities `[n, classes]`, in the constants' precision.

    Args:
        graph: as in manifest.json.
        constants: by name.
        images: uint8 `[n, height, width, channels]`.
    """
    values = {**constants, graph["input"]: images}
    nodes = graph["nodes"]
    last_reader = {
        name: index for index, node in enumerate(nodes) for name in node["inputs"]
    }
    for index, node in enumerate(nodes):
        inputs = [values[name] for name in node["inputs"]]
        values[node["output"]] = run_node(node["op"], inputs, node["attributes"])
        for name in set(node["inputs"]):
            if last_reader[name] == index:
                del values[name]  # frees its memory
    return values[graph["output"]]


def run_node(
    op: str, inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]
) -> np.ndarray:
    """The result of one operator.

    Raises:
        ValueError: the operator is unknown.
    """
    if op in ELEMENTWISE:
        return ELEMENTWISE[op](*inputs)
    value = inputs[0]
    if op in REDUCTIONS:
        axes, keep = tuple(attributes["axes"]), bool(attributes["keepdims"])
        return REDUCTIONS[op](value, axis=axes, keepdims=keep)
    match op:
        case "Cast":
            return value.astype(attributes["to"])
        case "Conv":
            return convolve(*inputs, **attributes)
        case "Gemm":
            return value @ inputs[1] + inputs[2]
        case "MaxPool":
            return functools.reduce(np.maximum, pool(value, -np.inf, attributes))
        case "AveragePool":  # padding counts as pixels
            places = pool(value, 0, attributes)
            return sum(places[1:], places[0]) / value.dtype.type(len(places))
        case "Softmax":
            axis = attributes["axis"]
            powers = np.exp(value - value.max(axis, keepdims=True))
            return powers / powers.sum(axis, keepdims=True)
        case _:
            return arrange(op, inputs, attributes)


def arrange(
    op: str, inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]
) -> np.ndarray:
    """The result of an operator that moves or cuts values.

    Raises:
        ValueError: the operator is unknown.
    """
    value = inputs[0]
    match op:
        case "Reshape":
            return value.reshape(attributes["shape"])
        case "Transpose":
            return value.transpose(attributes["perm"])
        case "Concat":
            return np.concatenate(inputs, attributes["axis"])
        case "Clip":
            return value.clip(attributes["min"], attributes["max"])
        case "Pad":
            pads = np.array(attributes["pads"]).reshape(2, -1).T
            return np.pad(value, pads, constant_values=attributes["value"])
        case "Slice":
            cut = [slice(None)] * value.ndim
            names = ("axes", "starts", "ends", "steps")
            rows = zip(*(attributes[name] for name in names), strict=True)
            for axis, start, end, step in rows:
                cut[axis] = slice(start, end, step)
            return value[tuple(cut)]
    raise ValueError(f"{op}: unknown operator")


def convolve(
    images: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> np.ndarray:
    """Convolution of `[n, channels, height, width]`; arguments as in ONNX."""
    filters, depth, *size = kernel.shape
    places = shifted(images, 0, size, strides, pads, dilations)
    count, channels, rows, columns = places[0].shape
    if depth == 1 and group == channels:  # each channel on its own
        taps = kernel.reshape(channels, filters // channels, -1, 1, 1)
        outputs = sum(
            place[:, :, None] * taps[:, :, index] for index, place in enumerate(places)
        )
    else:
        # One product for all images: `[inputs of a filter, images and pixels]`.
        patches = np.stack([place.swapaxes(0, 1) for place in places], axis=1)
        patches = patches.reshape(group, depth * len(places), -1)
        outputs = kernel.reshape(group, filters // group, -1) @ patches
        outputs = outputs.reshape(filters, count, rows, columns).swapaxes(0, 1)
    outputs = outputs.reshape(count, filters, rows, columns)
    return outputs if bias is None else outputs + bias[:, None, None]


def pool(
    images: np.ndarray, filling: float, attributes: Mapping[str, Any]
) -> list[np.ndarray]:
    """The pixels of all pooling windows, one array for each place in a window."""
    size, strides = attributes["kernel_shape"], attributes["strides"]
    return shifted(images, filling, size, strides, attributes["pads"], (1, 1))


def shifted(
    images: np.ndarray,
    filling: float,
    size: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> list[np.ndarray]:
    """For each place in a window, the pixels there: `[n, channels, rows, columns]`.

    Args:
        images: `[n, channels, height, width]`.
        filling: value of the padding.
        size: height and width of the window.
        strides: between windows.
        pads: top, left, bottom, right.
        dilations: between the pixels of a window.
    """
    top, left, bottom, right = pads
    if any(pads):
        around = ((0, 0), (0, 0), (top, bottom), (left, right))
        images = np.pad(images, around, constant_values=filling)
    lines, line = [
        (length - (count - 1) * step - 1) // stride * stride + 1
        for length, count, step, stride in zip(
            images.shape[2:], size, dilations, strides, strict=True
        )
    ]
    return [
        images[:, :, y : y + lines : strides[0], x : x + line : strides[1]]
        for y in range(0, size[0] * dilations[0], dilations[0])
        for x in range(0, size[1] * dilations[1], dilations[1])
    ]


def error_function(values: np.ndarray) -> np.ndarray:
    """Erf, within 4e-7 of the exact value."""
    inside = np.clip(values, -4, 4)
    square = inside * inside
    above = np.zeros_like(square)
    for coefficient in ERF_ABOVE:
        above = above * square + values.dtype.type(coefficient)
    below = np.zeros_like(square)
    for coefficient in ERF_BELOW:
        below = below * square + values.dtype.type(coefficient)
    return inside * above / below
