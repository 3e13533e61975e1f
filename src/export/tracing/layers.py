"""Convolutions, products of matrices, pooling and reductions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from src.export.tracing.builder import Builder, Operand, Value
from src.export.tracing.equation import (
    Equation,
    full,
    product,
    require,
    rest,
    result_shape,
    sizes_of,
)

REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
}


def reduce(
    builder: Builder, equation: Equation, operands: Sequence[Operand]
) -> Operand:
    """A sum, maximum or minimum over axes."""
    (value,) = full(builder, equation, operands)
    op = REDUCTIONS[equation.primitive.name]
    return builder.reduce(op, value, tuple(equation.params["axes"]), keep=False)


def convolve(
    builder: Builder, equation: Equation, operands: Sequence[Operand]
) -> Operand:
    """A convolution of two axes, with strides, dilation, padding and groups."""
    value, kernel = full(builder, equation, operands)
    params = equation.params
    inputs_axes, kernel_axes, outputs_axes = params["dimension_numbers"]
    pads = np.array(params["padding"])
    require(isinstance(value, Value), "convolution of a constant")
    require(isinstance(kernel, np.ndarray), "convolution with a computed kernel")
    require(len(inputs_axes) == 4, "convolution that is not of two axes")
    require(set(params["lhs_dilation"]) == {1}, "transposed convolution")
    require(params["batch_group_count"] == 1, "convolution in groups of the batch")
    require(bool((pads >= 0).all()), "convolution with negative padding")
    weights = kernel.transpose(kernel_axes)
    order = tuple(inputs_axes.index(axis) for axis in range(4))
    shape = result_shape(equation)
    return builder.emit(
        "Conv",
        [builder.arrange(value, order), weights],
        tuple(shape[axis] for axis in outputs_axes),
        tuple(outputs_axes.index(axis) for axis in range(4)),
        strides=list(params["window_strides"]),
        pads=pads.T.ravel().tolist(),
        dilations=list(params["rhs_dilation"]),
        group=params["feature_group_count"],
    )


def multiply_matrices(
    builder: Builder, equation: Equation, operands: Sequence[Operand]
) -> Operand:
    """A product of matrices, batched or not; with a constant, a dense layer."""
    left, right = full(builder, equation, operands)
    sums, batches = equation.params["dimension_numbers"]
    shape = result_shape(equation)
    left_free = rest(left, sums[0], batches[0])
    right_free = rest(right, sums[1], batches[1])
    if len(right.shape) == 2 and not batches[1] and len(sums[1]) == 1:
        groups = [[axis] for axis in (*left_free, *sums[0])]
    else:
        groups = [*([axis] for axis in batches[0]), left_free, list(sums[0])]
    first = gather_axes(builder, left, groups)
    groups = [*([axis] for axis in batches[1]), list(sums[1]), right_free]
    second = gather_axes(builder, right, groups)
    given = [builder.plain(first), builder.plain(second)]
    if len(first.shape) == 2 and isinstance(second, np.ndarray):
        given.append(np.zeros(second.shape[1], np.float32))
        outputs = builder.emit("Gemm", given, (first.shape[0], second.shape[1]))
    else:
        stored = (*first.shape[:-1], second.shape[-1])
        outputs = builder.emit("MatMul", given, stored)
    return builder.reshape(outputs, shape)


def gather_axes(
    builder: Builder, operand: Operand, groups: Sequence[Sequence[int]]
) -> Operand:
    """The operand with its axes in this order, and each group of them as one axis."""
    axes = [axis for group in groups for axis in group]
    shape = tuple(product(operand.shape[axis] for axis in group) for group in groups)
    if isinstance(operand, np.ndarray):
        return operand.transpose(axes).reshape(shape)
    order = tuple(operand.order[axis] for axis in axes)
    return builder.reshape(operand._replace(order=order), shape)


def pool(builder: Builder, equation: Equation, operands: Sequence[Operand]) -> Operand:
    """Maxima or sums over windows of two axes."""
    params = equation.params
    value, window, strides = (
        operands[0],
        params["window_dimensions"],
        params["window_strides"],
    )
    if isinstance(value, np.ndarray):  # the number of pixels of each window
        one = [max(size, 1) for size in sizes_of(equation.invars[0].aval)]
        constant = np.broadcast_to(value, one).astype(np.float32)
        return np.asarray(equation.primitive.bind(constant, **params))
    (value,) = full(builder, equation, operands)
    moving = [
        axis
        for axis in range(len(window))
        if (window[axis], strides[axis], *params["padding"][axis]) != (1, 1, 0, 0)
    ]
    require(len(window) == 4 and 0 not in moving, "pooling that is not of images")
    require(len(moving) <= 2, "pooling of more than two axes")
    require(
        set(params["window_dilation"]) == set(params["base_dilation"]) == {1},
        "dilated pooling",
    )
    spatial = sorted((moving + [axis for axis in (1, 2, 3) if axis not in moving])[:2])
    stored = [0, *rest(value, [0], spatial), *spatial]
    order = tuple(stored.index(axis) for axis in range(4))
    shape = result_shape(equation)
    attributes: dict[str, Any] = {
        "kernel_shape": [window[axis] for axis in spatial],
        "strides": [strides[axis] for axis in spatial],
        "pads": [params["padding"][axis][end] for end in (0, 1) for axis in spatial],
    }
    given, sizes = builder.arrange(value, order), tuple(shape[axis] for axis in stored)
    if equation.primitive.name != "reduce_window_sum":
        return builder.emit("MaxPool", [given], sizes, order, **attributes)
    attributes["count_include_pad"] = 1
    mean = builder.emit("AveragePool", [given], sizes, order, **attributes)
    count = float(np.prod(window))
    total = builder.elementwise("Mul", mean, np.array(count))
    builder.means[total.name] = count, mean
    return total


def negative_pool(
    builder: Builder, equation: Equation, operands: Sequence[Operand]
) -> Operand:
    """A minimum is the negative maximum of the negatives."""
    negative = builder.elementwise("Neg", operands[0])
    return builder.elementwise("Neg", pool(builder, equation, [negative]))
