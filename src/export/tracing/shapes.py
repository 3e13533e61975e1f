"""Primitives that move, join and cut values."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from src.export.graph import UnsupportedError
from src.export.tracing.builder import BATCH, Axes, Builder, Operand, Value
from src.export.tracing.equation import (
    Equation,
    full,
    is_scalar,
    require,
    result_shape,
)


def broadcast_in_dim(
    builder: Builder, equation: Equation, operands: Sequence[Operand]
) -> Operand:
    """Inserts axes of size 1; nodes broadcast them."""
    value = operands[0]
    shape = result_shape(equation)
    places = equation.params["broadcast_dimensions"]
    inserted = [1] * len(shape)
    for place, size in zip(places, value.shape, strict=True):
        inserted[place] = size
    if isinstance(value, np.ndarray):
        return value if is_scalar(value) else value.reshape(inserted)
    found = builder.reductions.get(value.name)
    missing = tuple(axis for axis in range(len(shape)) if axis not in places)
    if found and found.axes == missing and len(found.source.shape) == len(shape):
        return builder.reduce(*found, keep=True)
    return builder.reshape(value, tuple(inserted))


def reshape(
    builder: Builder, equation: Equation, operands: Sequence[Operand]
) -> Operand:
    """Also `squeeze` and `expand_dims`."""
    (value,) = full(builder, equation, operands[:1])
    return builder.reshape(value, result_shape(equation))


def transpose(
    builder: Builder, equation: Equation, operands: Sequence[Operand]
) -> Operand:
    """Only notes the order of the axes."""
    (value,) = full(builder, equation, operands)
    order = tuple(value.order[axis] for axis in equation.params["permutation"])
    return value._replace(order=order)


def concatenate(
    builder: Builder, equation: Equation, operands: Sequence[Operand]
) -> Operand:
    """Values and constants side by side."""
    operands = full(builder, equation, operands)
    axis = equation.params["dimension"]
    return join(builder, operands, axis, result_shape(equation))


def stack(builder: Builder, equation: Equation, operands: Sequence[Operand]) -> Operand:
    """Values and constants along a new axis."""
    axis, shape = equation.params["axis"], result_shape(equation)
    single = (*shape[:axis], 1, *shape[axis + 1 :])
    grown = [
        operand.reshape(single)
        if isinstance(operand, np.ndarray)
        else builder.reshape(operand, single)
        for operand in full(builder, equation, operands)
    ]
    return join(builder, grown, axis, shape)


def join(
    builder: Builder, operands: Sequence[Operand], axis: int, shape: Axes
) -> Operand:
    """Concatenates along an axis as JAX sees it."""
    operands = [each for each in operands if 0 not in each.shape]
    order = next(each.order for each in operands if isinstance(each, Value))
    given = [builder.arrange(operand, order) for operand in operands]
    stored = tuple(shape[order.index(place)] for place in range(len(order)))
    return builder.emit("Concat", given, stored, order, axis=order[axis])


def pad(builder: Builder, equation: Equation, operands: Sequence[Operand]) -> Operand:
    """Padding with a constant."""
    value, filling = operands
    (value,) = full(builder, equation, operands)[:1]
    config = np.array(equation.params["padding_config"])
    number = float(filling) if isinstance(filling, np.ndarray) else math.inf
    require(math.isfinite(number), "padding with a computed or infinite value")
    require(bool((config[:, :2] >= 0).all()), "negative padding")
    require(not config[:, 2].any(), "padding between pixels")
    before_and_after = config[[value.order.index(axis) for axis in range(len(config))]]
    stored = tuple(
        size if size == BATCH else size + int(sum(pads[:2]))
        for size, pads in zip(value.stored, before_and_after, strict=True)
    )
    pads = before_and_after[:, :2].T.ravel().tolist()
    return builder.emit(
        "Pad", [value.name], stored, value.order, pads=pads, value=number
    )


def cut(builder: Builder, equation: Equation, operands: Sequence[Operand]) -> Operand:
    """A slice."""
    (value,) = full(builder, equation, operands)
    params = equation.params
    steps = params["strides"] or (1,) * len(value.shape)
    return cut_axes(
        builder, value, list(params["start_indices"]), params["limit_indices"], steps
    )


def cut_axes(
    builder: Builder,
    value: Value,
    starts: Sequence[int],
    ends: Sequence[Any],
    steps: Sequence[int],
) -> Value:
    """Keeps `starts[i]:ends[i]:steps[i]` of each axis, as JAX sees them."""
    axes = [
        axis
        for axis, size in enumerate(value.shape)
        if size != BATCH and (starts[axis], ends[axis], steps[axis]) != (0, size, 1)
    ]
    stored = list(value.stored)
    for axis in axes:
        stored[value.order[axis]] = len(range(starts[axis], ends[axis], steps[axis]))
    if not axes:
        return value
    return builder.emit(
        "Slice",
        [value.name],
        tuple(stored),
        value.order,
        axes=[value.order[axis] for axis in axes],
        starts=[int(starts[axis]) for axis in axes],
        ends=[int(ends[axis]) for axis in axes],
        steps=[int(steps[axis]) for axis in axes],
    )


def split(
    builder: Builder, equation: Equation, operands: Sequence[Operand]
) -> list[Operand]:
    """A slice for each part."""
    (value,) = full(builder, equation, operands)
    axis, end = equation.params["axis"], 0
    parts: list[Operand] = []
    ones = [1] * len(value.shape)
    for size in equation.params["sizes"]:
        starts, ends = [0] * len(ones), list(value.shape)
        starts[axis], ends[axis] = end, end + size
        parts.append(cut_axes(builder, value, starts, ends, ones))
        end += size
    return parts


def take_range(
    builder: Builder, equation: Equation, operands: Sequence[Operand]
) -> Operand:
    """Indexing as in `x[:, 0]` and `x[:, ::2, ::2]`: of places and of ranges."""
    (value,), indices = full(builder, equation, operands)[:1], operands[1]
    numbers = equation.params["dimension_numbers"]
    if isinstance(indices, Value):
        raise UnsupportedError("indexing with computed places")
    require(not numbers.operand_batching_dims, "indexing in batches")
    starts, steps = [0] * len(value.shape), [1] * len(value.shape)
    sizes = list(sizes_of_slices(equation))
    ranged: dict[int, int] = {}  # axis of the value, by axis of the indices
    for place, axis in enumerate(numbers.start_index_map):
        column = indices[..., place].astype(int)
        moving = [
            each for each, size in enumerate(column.shape) if np.ptp(column, each).any()
        ]
        starts[axis] = int(column.flat[0])
        if moving:
            line = np.unique(column)
            step = int(line[1] - line[0])
            regular = (
                len(line) == column.shape[moving[0]]
                and bool((np.moveaxis(column, moving[0], -1) == line).all())
                and set(np.diff(line)) == {step}
            )
            require(regular and sizes[axis] == 1, "indexing with other than ranges")
            ranged[moving[0]] = axis
            steps[axis], sizes[axis] = step, len(line)
    require(keeps_order(equation, ranged), "indexing that moves axes")
    ends = [
        start + (size - 1) * step + 1
        for start, size, step in zip(starts, sizes, steps, strict=True)
    ]
    result = cut_axes(builder, value, starts, ends, steps)
    return builder.reshape(result, result_shape(equation))


def sizes_of_slices(equation: Equation) -> Axes:
    """What a gather takes of each axis at each place."""
    sizes = equation.params["slice_sizes"]
    return tuple(size if isinstance(size, int) else BATCH for size in sizes)


def keeps_order(equation: Equation, ranged: Mapping[int, int]) -> bool:
    """Whether a gather's result has the axes of its operand, in their order.

    Args:
        equation: the gather.
        ranged: axis of the operand, by axis of the indices.
    """
    numbers = equation.params["dimension_numbers"]
    result, indices = equation.outvars[0].aval.shape, equation.invars[1].aval.shape
    own = [axis for axis in range(len(result)) if axis not in numbers.offset_dims]
    kept = iter(
        axis
        for axis in range(len(equation.invars[0].aval.shape))
        if axis not in numbers.collapsed_slice_dims
    )
    axes = [
        ranged.get(own.index(axis), -1) if axis in own else next(kept)
        for axis in range(len(result))
    ]
    single = all(size == 1 or axis in ranged for axis, size in enumerate(indices[:-1]))
    moved = [axis for axis in axes if axis >= 0]
    return single and moved == sorted(moved)
