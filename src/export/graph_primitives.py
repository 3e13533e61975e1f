"""What each of JAX's primitives becomes in a graph.

A function takes the builder, the equation and its operands, and returns the results.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax.extend
import numpy as np

from src.export.graph import UnsupportedError
from src.export.graph_builder import BATCH, Axes, Builder, Operand, Value

Equation = Any  # jax.extend.core.JaxprEqn
Lowering = Callable[[Builder, Equation, Sequence[Operand]], Operand]

ELEMENTWISE = {
    **{"add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "pow": "Pow"},
    **{"min": "Min", "gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less"},
    **{"le": "LessOrEqual", "eq": "Equal", "and": "And", "or": "Or", "not": "Not"},
    **{"logistic": "Sigmoid", "tanh": "Tanh", "erf": "Erf", "exp": "Exp", "log": "Log"},
    **{"sqrt": "Sqrt", "abs": "Abs", "neg": "Neg"},
}
UNCHANGED = {"copy", "copy_p", "name", "optimization_barrier", "stop_gradient"}
STRUCTURAL = {"convert_element_type", "reshape", "squeeze", "transpose", "gather"}
REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
}
ONE = np.array(1, np.float32)


def sizes_of(aval: Any) -> Axes:  # noqa: ANN401 - JAX's abstract array
    """The shape of a result; a symbolic size is `BATCH`."""
    return tuple(size if isinstance(size, int) else BATCH for size in aval.shape)


def result_shape(equation: Equation) -> Axes:
    """The shape of an equation's only result."""
    return sizes_of(equation.outvars[0].aval)


def is_scalar(operand: Operand) -> bool:
    """Whether it is one number, perhaps of an array of equal numbers."""
    return isinstance(operand, np.ndarray) and operand.ndim == 0


def full(builder: Builder, equation: Equation, operands: Sequence[Operand]) -> Any:  # noqa: ANN401
    """The operands in the shapes that the equation sees."""
    return [
        builder.expand(operand, sizes_of(variable.aval))
        for operand, variable in zip(operands, equation.invars, strict=True)
    ]


def require(condition: bool, what: str) -> None:
    """Raises UnsupportedError unless the condition holds."""
    if not condition:
        raise UnsupportedError(what)


def maximum(builder: Builder, _: Equation, operands: Sequence[Operand]) -> Operand:
    """`max(x, 0)` is a Relu."""
    left, right = operands
    for value, bound in ((left, right), (right, left)):
        if is_scalar(bound) and bound == 0:
            return builder.elementwise("Relu", value)
    return builder.elementwise("Max", left, right)


def cast(builder: Builder, equation: Equation, operands: Sequence[Operand]) -> Operand:
    """Booleans become 0 and 1. The images are numbers from the first node on."""
    (value,) = operands
    if equation.invars[0].aval.dtype == bool:
        return builder.elementwise("Cast", value, to="float32")
    return value


def integer_power(
    builder: Builder, equation: Equation, operands: Sequence[Operand]
) -> Operand:
    """A square or cube is a product."""
    (value,) = operands
    match equation.params["y"]:
        case 2:
            return builder.elementwise("Mul", value, value)
        case 3:
            square = builder.elementwise("Mul", value, value)
            return builder.elementwise("Mul", square, value)
        case power:
            return builder.elementwise("Pow", value, np.array(power))


def clamp(builder: Builder, _: Equation, operands: Sequence[Operand]) -> Operand:
    """`clamp(low, x, high)`."""
    low, value, high = operands
    bounds = [float(each) if is_scalar(each) else None for each in (low, high)]
    require(None not in bounds, "clamp between arrays")
    return builder.elementwise("Clip", value, min=bounds[0], max=bounds[1])


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
    builder.sums.append(weights[0].size)
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
    left_free, right_free = (
        rest(operand, *axes)
        for operand, axes in zip((left, right), zip(sums, batches, strict=True))
    )
    builder.sums.append(product(left.shape[axis] for axis in sums[0]))
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


def product(sizes: Iterable[int]) -> int:
    """The product of sizes, `BATCH` if one of them is."""
    found = list(sizes)
    return BATCH if BATCH in found else math.prod(found)


def rest(operand: Operand, *taken: Sequence[int]) -> list[int]:
    """The axes that are in none of the groups."""
    gone = {axis for group in taken for axis in group}
    return [axis for axis in range(len(operand.shape)) if axis not in gone]


def pool(builder: Builder, equation: Equation, operands: Sequence[Operand]) -> Operand:
    """Maxima or sums over windows of two axes."""
    params = equation.params
    value, window, strides = (
        operands[0],
        params["window_dimensions"],
        params["window_strides"],
    )
    if isinstance(value, np.ndarray):  # the number of pixels of each window
        shape = [max(size, 1) for size in sizes_of(equation.invars[0].aval)]
        given = np.broadcast_to(value, shape).astype(np.float32)
        return np.asarray(equation.primitive.bind(given, **params))
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


def choose(builder: Builder, _: Equation, operands: Sequence[Operand]) -> Operand:
    """`select_n(condition, if_false, if_true)`."""
    condition, if_false, if_true = operands
    if isinstance(condition, np.ndarray) and np.ptp(condition.astype(int)) == 0:
        return if_true if condition.flat[0] else if_false
    return builder.elementwise("Where", condition, if_true, if_false)


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
    require(isinstance(filling, np.ndarray), "padding with a computed value")
    require(bool((config[:, :2] >= 0).all()), "negative padding")
    require(not config[:, 2].any(), "padding between pixels")
    before_and_after = config[[value.order.index(axis) for axis in range(len(config))]]
    stored = tuple(
        size if size == BATCH else size + int(sum(pads[:2]))
        for size, pads in zip(value.stored, before_and_after, strict=True)
    )
    pads = before_and_after[:, :2].T.ravel().tolist()
    return builder.emit(
        "Pad", [value.name], stored, value.order, pads=pads, value=float(filling)
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
    axis, end, parts = equation.params["axis"], 0, []
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
    require(isinstance(indices, np.ndarray), "indexing with computed places")
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


def reciprocal_root(
    builder: Builder, _: Equation, operands: Sequence[Operand]
) -> Operand:
    """1 / sqrt(x)."""
    return builder.elementwise("Div", ONE, builder.elementwise("Sqrt", operands[0]))


LOWERINGS: dict[str, Lowering] = {
    "max": maximum,
    "convert_element_type": cast,
    "integer_pow": integer_power,
    "clamp": clamp,
    "broadcast_in_dim": broadcast_in_dim,
    "reshape": reshape,
    "squeeze": reshape,
    "expand_dims": reshape,
    "transpose": transpose,
    "conv_general_dilated": convolve,
    "dot_general": multiply_matrices,
    "reduce_window_max": pool,
    "reduce_window_sum": pool,
    "concatenate": concatenate,
    "stack": stack,
    "pad": pad,
    "slice": cut,
    "gather": take_range,
    "rsqrt": reciprocal_root,
    "div": lambda builder, _, operands: builder.divide(*operands),
    "square": lambda builder, _, operands: builder.elementwise("Mul", *operands * 2),
    "expm1": lambda builder, _, operands: builder.elementwise(
        "Sub", builder.elementwise("Exp", *operands), ONE
    ),
    "log1p": lambda builder, _, operands: builder.elementwise(
        "Log", builder.elementwise("Add", *operands, ONE)
    ),
    "erfc": lambda builder, _, operands: builder.elementwise(
        "Sub", ONE, builder.elementwise("Erf", *operands)
    ),
    "ne": lambda builder, _, operands: builder.elementwise(
        "Not", builder.elementwise("Equal", *operands)
    ),
    "select_n": choose,
    "reduce_window_min": negative_pool,
    **dict.fromkeys(REDUCTIONS, reduce),
}


def lower(
    builder: Builder, equation: Equation, operands: list[Operand]
) -> list[Operand]:
    """The results of an equation.

    Raises:
        UnsupportedError: no operator stands for it.
    """
    name = equation.primitive.name
    result = equation.outvars[0].aval.dtype
    numbers = {variable.aval.dtype for variable in equation.invars} | {result}
    whole = numbers - {np.dtype(np.float32), np.dtype(bool)}
    if (whole and name not in STRUCTURAL) or result not in (np.float32, bool, np.uint8):
        raise UnsupportedError(f"{name} of {', '.join(map(str, whole or {result}))}")
    if name in UNCHANGED or (name in STRUCTURAL and is_scalar(operands[0])):
        return [operands[0]]
    if name in ELEMENTWISE:
        return [builder.elementwise(ELEMENTWISE[name], *operands)]
    if name == "split":
        return split(builder, equation, operands)
    if name not in LOWERINGS:
        raise UnsupportedError(name)
    return [LOWERINGS[name](builder, equation, operands)]


def inner_program(equation: Equation) -> jax.extend.core.ClosedJaxpr | None:
    """The program of an equation that only calls it, such as `jit`."""
    if equation.primitive.name in ("scan", "while", "cond"):
        return None
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if program := equation.params.get(key):
            closed = isinstance(program, jax.extend.core.ClosedJaxpr)
            return program if closed else jax.extend.core.ClosedJaxpr(program, [])
    return None
