"""Emits the nodes of a graph, and keeps track of the layout of each value.

JAX's layout is NHWC and ONNX's is NCHW. A value is therefore stored in any order of its
axes. It is transposed only when an operator needs another order, so most networks have
a transposition at each end and none in between.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from src.export.graph import Node, UnsupportedError

COMMUTATIVE = {"Add", "Mul", "Max", "Min"}
NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1}  # numbers that change nothing
BATCH = -1  # the size of an axis that grows with the batch

Axes = tuple[int, ...]


class Value(NamedTuple):
    """The result of a node. Its axis `i` is axis `order[i]` of the stored array."""

    name: str
    stored: Axes  # shape of the stored array
    order: Axes

    @property
    def shape(self) -> Axes:
        """The shape that JAX sees."""
        return tuple(self.stored[axis] for axis in self.order)


Operand = Value | np.ndarray  # an array is a constant


class Reduction(NamedTuple):
    """What a value is a reduction of: a later division makes a mean of a sum."""

    op: str
    source: Value
    axes: Axes  # as JAX sees them


def plain_order(rank: int) -> Axes:
    """The order of axes that JAX has."""
    return tuple(range(rank))


def broadcast(*shapes: Axes) -> Axes:
    """The common shape; axes of size 1 grow, missing leading axes are added."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(
        next((size for size in sizes if size != 1), 1)
        for sizes in zip(*padded, strict=True)
    )


class Builder:
    """The nodes so far."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.shapes: dict[str, Axes] = {}  # as stored, by name
        self.reshaped: dict[str, str] = {}  # what a value is a reshape of
        self.reductions: dict[str, Reduction] = {}
        self.means: dict[str, tuple[float, Value]] = {}  # count and mean of a sum

    def constant(self, array: np.ndarray) -> str:
        """The name of a new constant."""
        if array.dtype == bool:
            raise UnsupportedError("a constant condition")
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(array, np.float32).reshape(
            array.shape
        )
        return name

    def emit(
        self,
        op: str,
        inputs: Sequence[str | np.ndarray],
        stored: Axes,
        order: Axes | None = None,
        **attributes: Any,  # noqa: ANN401 - those of the operator
    ) -> Value:
        """Appends a node; `stored` is the shape of its result."""
        names = tuple(
            name if isinstance(name, str) else self.constant(name) for name in inputs
        )
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(Node(op, names, output, attributes))
        self.shapes[output] = stored
        return Value(output, stored, order or plain_order(len(stored)))

    def arrange(self, value: Operand, order: Axes) -> str | np.ndarray:
        """The input of a node that wants the axes stored in this order."""
        if isinstance(value, np.ndarray):
            return value.transpose([order.index(axis) for axis in range(value.ndim)])
        if value.order == order:
            return value.name
        axes = [value.order[order.index(axis)] for axis in range(len(order))]
        stored = tuple(value.stored[axis] for axis in axes)
        long = [axis for axis in axes if value.stored[axis] != 1]
        if long == sorted(long):
            return self.emit_reshape(value.name, stored).name
        return self.emit("Transpose", [value.name], stored, order, perm=axes).name

    def plain(self, value: Operand) -> str | np.ndarray:
        """The input of a node that wants JAX's order of axes."""
        rank = value.ndim if isinstance(value, np.ndarray) else len(value.order)
        return self.arrange(value, plain_order(rank))

    def elementwise(
        self,
        op: str,
        *operands: Operand,
        **attributes: Any,  # noqa: ANN401 - those of the operator
    ) -> Value:
        """A node that treats all elements alike, with NumPy's broadcasting."""
        values = [each for each in operands if isinstance(each, Value)]
        if op in COMMUTATIVE and isinstance(operands[0], np.ndarray):
            operands = operands[::-1]
        first, last = operands[0], operands[-1]
        if isinstance(first, Value) and isinstance(last, np.ndarray):
            neutral = last.ndim == 0 and last == NEUTRAL.get(op)
            if neutral:
                return first
        largest = max(values, key=lambda each: sum(size != 1 for size in each.stored))
        order = largest.order
        inputs: list[str | np.ndarray] = []
        shapes: list[Axes] = []
        for operand in operands:
            if len(operand.shape) not in (0, len(order)):
                raise UnsupportedError("broadcasting of other ranks")
            given: str | np.ndarray
            if isinstance(operand, np.ndarray) and operand.ndim == 0:
                given = operand
            else:
                given = self.arrange(operand, order)
            inputs.append(given)
            shapes.append(self.shapes[given] if isinstance(given, str) else given.shape)
        return self.emit(op, inputs, broadcast(*shapes), order, **attributes)

    def reshape(self, value: Value, shape: Axes) -> Value:
        """The value in another shape, of which one axis may grow with the batch."""
        if value.shape == shape:
            return value
        if shape.count(BATCH) > 1:
            raise UnsupportedError("a shape of which two axes grow with the batch")
        return self.emit_reshape(str(self.plain(value)), shape)

    def emit_reshape(self, name: str, shape: Axes) -> Value:
        """A reshape of a stored array; one in place of two."""
        source = self.reshaped.get(name, name)
        if self.shapes[source] == shape:
            return Value(source, shape, plain_order(len(shape)))
        result = self.emit("Reshape", [source], shape, shape=list(shape))
        self.reshaped[result.name] = source
        return result

    def expand(self, operand: Operand, shape: Axes) -> Operand:
        """The operand in its full shape; elementwise nodes broadcast by themselves."""
        if operand.shape == shape:
            return operand
        if isinstance(operand, np.ndarray):
            static = np.broadcast_to(operand, [abs(size) for size in shape])
            return self.per_image(static, shape) if BATCH in shape else static
        zeros = np.zeros([1 if size == BATCH else size for size in shape])
        return self.elementwise("Add", operand, zeros)

    def per_image(self, constant: np.ndarray, shape: Axes) -> Value:
        """A copy for each image: zero times a pixel, plus the constant."""
        if shape[0] != BATCH:
            raise UnsupportedError("a batch that is not the first axis")
        zeros, ones = [0] * 3, [1] * 3
        pixel = self.emit(
            "Slice",
            [self.nodes[0].output],
            (BATCH, 1, 1, 1),
            axes=[1, 2, 3],
            starts=zeros,
            ends=ones,
            steps=ones,
        )
        zero = self.elementwise("Mul", pixel, np.array(0.0))
        thin = self.reshape(zero, (BATCH, *[1] * (len(shape) - 1)))
        return self.elementwise("Add", thin, constant)

    def reduce(self, op: str, value: Value, axes: Axes, *, keep: bool) -> Value:
        """A reduction over axes as JAX sees them; `keep` leaves axes of size 1."""
        if any(value.shape[axis] == BATCH for axis in axes):
            raise UnsupportedError("a reduction over the batch")
        reduced = sorted(value.order[axis] for axis in axes)
        left = [axis for axis in range(len(value.shape)) if axis not in axes]
        image_mean = op == "ReduceMean" and reduced == [2, 3] and len(value.stored) == 4
        if len(axes) > 2:  # OpenCV 4 computes a reduction of three axes wrongly
            part = self.reduce(op, value, axes[2:], keep=True)
            result = self.reduce(op, part, axes[:2], keep=True)
        elif image_mean:
            pooled = (*value.stored[:2], 1, 1)
            result = self.emit("GlobalAveragePool", [value.name], pooled, value.order)
        else:
            result = self.emit_reduction(op, value, reduced, keep=keep)
        if len(result.shape) == len(value.shape) and not keep:
            result = self.reshape(result, tuple(value.shape[axis] for axis in left))
        self.reductions[result.name] = Reduction(op, value, axes)
        return result

    def emit_reduction(
        self, op: str, value: Value, reduced: list[int], *, keep: bool
    ) -> Value:
        """A reduction node; `reduced` are axes of the stored array."""
        sizes = enumerate(value.stored)
        if keep:
            stored = tuple(1 if axis in reduced else size for axis, size in sizes)
            order = value.order
        else:
            kept = [axis for axis, _ in sizes if axis not in reduced]
            stored = tuple(value.stored[axis] for axis in kept)
            order = tuple(kept.index(axis) for axis in value.order if axis in kept)
        return self.emit(
            op, [value.name], stored, order, axes=reduced, keepdims=int(keep)
        )

    def divide(self, value: Operand, divisor: Operand) -> Value:
        """The quotient; a sum divided by its number of terms becomes a mean."""
        if isinstance(value, Value) and isinstance(divisor, np.ndarray):
            count = float(divisor.flat[0]) if np.ptp(divisor) == 0 else math.nan
            if self.means.get(value.name, (None,))[0] == count:
                return self.means[value.name][1]
            found = self.reductions.get(value.name)
            if found and found.op == "ReduceSum":
                sizes = [found.source.shape[axis] for axis in found.axes]
                if math.prod(sizes) == count:
                    keep = len(value.shape) == len(found.source.shape)
                    return self.reduce("ReduceMean", *found[1:], keep=keep)
        return self.elementwise("Div", value, divisor)
