"""The form in `graph` of each operator of ONNX that a network may have."""

from collections.abc import Callable

import numpy as np
from jax import lax

from src.export.onnx_values import BATCH, Call


def plain(call: Call) -> None:
    """The same."""
    several = call.node.op_type in ("Max", "Min") and len(call.inputs) != 2
    call.require(not several, "of another number than two")
    call.emit(call.node.op_type, *call.inputs)


def choice(call: Call) -> None:
    """The same. A constant condition chooses at once: `jnp.var` has one."""
    if call.inputs[0] not in call.values.constants:
        plain(call)
        return
    array = call.fixed(0)
    chosen = 1 if array.all() else 2
    shape = call.values.shape(call.node.input[chosen])
    one_of_both = array.all() or not array.any()
    call.require(one_of_both and shape == call.result, "with a constant condition")
    call.same(call.inputs[chosen])


def identity(call: Call) -> None:
    """No node."""
    call.same(call.inputs[0])


def cast(call: Call) -> None:
    """Booleans become 0 and 1; a `Cast` of the images stands before all others."""
    from onnx import TensorProto

    before, after = map(call.values.kind, (call.node.input[0], call.node.output[0]))
    call.require(after == TensorProto.FLOAT, "to booleans")
    if before == TensorProto.BOOL:
        call.emit("Cast", call.inputs[0], to="float32")
    else:
        identity(call)


def layer(call: Call) -> None:
    """A convolution or pooling: of two axes, with padding in pixels."""
    given, kernel = call.given, call.fixed(1)
    size = given["kernel_shape"] if kernel is None else kernel.shape[2:]
    dilations = given.get("dilations", [1, 1])
    attributes = {"strides": given.get("strides", [1, 1]), "pads": padding(call, size)}
    if kernel is None:
        call.require(set(dilations) == {1}, "with dilations")
        attributes["kernel_shape"] = size
    else:
        attributes |= {"dilations": dilations, "group": given["group"]}
    if call.node.op_type == "AveragePool":
        counted = given["count_include_pad"] or not any(attributes["pads"])
        call.require(counted, "without its padding")
        attributes["count_include_pad"] = 1
    supported = len(size) == 2 and not given.get("ceil_mode")
    call.require(supported, "that is not of two axes, or with ceil_mode")
    call.emit(call.node.op_type, *filter(None, call.inputs), **attributes)


def padding(call: Call, size: list[int]) -> list[int]:
    """Top, left, bottom, right of a layer with a window of this size."""
    if call.given["auto_pad"] == b"NOTSET":
        return list(call.given.get("pads", [0] * 2 * len(size)))
    gaps = call.given.get("dilations", [1] * len(size))
    reach = [(count - 1) * gap + 1 for count, gap in zip(size, gaps, strict=True)]
    name = call.given["auto_pad"].decode().replace("_UPPER", "")
    strides = call.given.get("strides", [1] * len(size))
    ends = lax.padtype_to_pads(call.shape[2:], reach, strides, name)
    return [int(end) for side in zip(*ends, strict=True) for end in side]


def dense(call: Call) -> None:
    """A product and a sum of constants, without factors and transpositions."""
    given, kernel, bias = call.given, call.fixed(1), call.fixed(2, np.zeros(1))
    kernel = (kernel.T if given["transB"] else kernel) * given["alpha"]
    plain_bias = bias.size in (1, kernel.shape[1])
    call.require(plain_bias and not given["transA"], "of other forms than a layer")
    bias = np.broadcast_to(bias.ravel() * given["beta"], kernel.shape[1])
    call.emit("Gemm", call.inputs[0], kernel, bias)


def einsum(call: Call) -> None:
    """A product of a value's last axis and a matrix, as of `x @ kernel`."""
    equation = call.given["equation"].decode().replace(" ", "")
    terms, _, result = equation.partition("->")
    left, _, right = terms.partition(",")
    product = right == left[-1:] + result[-1:] and left[:-1] == result[:-1]
    call.require(product, f"of {equation}")
    call.emit("MatMul", *call.inputs)


def batch_norm(call: Call) -> None:
    """A scale and a shift, which `fold` may move into the layer before."""
    scale, bias, mean, variance = (call.fixed(i).astype(float) for i in range(1, 5))
    factor = scale / np.sqrt(variance + call.given["epsilon"])
    shape = [-1] + [1] * (len(call.shape) - 2)
    scaled = call.values.emit("Mul", call.inputs[0], factor.reshape(shape))
    call.emit("Add", scaled, (bias - mean * factor).reshape(shape))


def reduction(call: Call) -> None:
    """Over at most two axes at once: OpenCV 4 computes three wrongly."""
    op, value, rank = call.node.op_type, call.inputs[0], len(call.shape)
    axes = sorted(int(axis) % rank for axis in call.fixed(1, range(rank)))
    call.require(len(axes) > 0 and axes[0] > 0, "of the batch")
    if op == "ReduceSumSquare":
        op, value = "ReduceSum", call.values.emit("Mul", value, value)
    if len(axes) <= 2:
        call.emit(op, value, axes=axes, keepdims=call.given["keepdims"])
        return
    for part in (axes[2:], axes[:2]):
        value = call.values.emit(op, value, axes=part, keepdims=1)
    call.emit("Reshape", value, shape=call.result)


def mean_of_pixels(call: Call) -> None:
    """The mean over height and width."""
    call.emit("ReduceMean", call.inputs[0], axes=[2, 3], keepdims=1)


def reshape(call: Call) -> None:
    """To a shape that is known but for one axis."""
    call.require(call.result.count(BATCH) <= 1, "to several axes that vary")
    value, constants = call.inputs[0], call.values.constants
    if value in constants:
        constants[call.node.output[0]] = constants[value].reshape(call.result)
    elif call.shape == call.result:
        identity(call)
    else:
        call.emit("Reshape", value, shape=call.result)


def expand(call: Call) -> None:
    """A sum with zeros. Copies of a constant for each image stay one."""
    sizes = [1 if size == BATCH else size for size in call.result]
    output, values = call.node.output[0], call.values
    if call.inputs[0] in values.constants:
        values.constants[output] = np.broadcast_to(call.fixed(0), sizes)
        values.thin |= {output} if BATCH in call.result else set()
    elif call.shape == call.result:
        identity(call)
    else:
        one_batch = call.shape[0] == call.result[0] and BATCH not in call.result[1:]
        same_rank = len(call.shape) == len(call.result)
        call.require(one_batch and same_rank, "of the batch")
        call.emit("Add", call.inputs[0], np.zeros(sizes))


def along_axis(call: Call) -> None:
    """With an axis counted from the first."""
    axis = call.given["axis"] % len(call.shape)
    call.emit(call.node.op_type, *call.inputs, axis=axis)


def transpose(call: Call) -> None:
    """The same."""
    call.emit("Transpose", call.inputs[0], perm=call.given["perm"])


def pad(call: Call) -> None:
    """With a number, and values on all axes."""
    pads, value = call.fixed(1), call.fixed(2, 0)
    simple = call.given["mode"] == b"constant" and len(pads) == 2 * len(call.shape)
    call.require(simple and min(pads) >= 0, "that is not of a number")
    call.emit("Pad", call.inputs[0], pads=pads.tolist(), value=float(value))


def cut(call: Call) -> None:
    """Each axis with its first and last place, counted from the first."""
    starts, ends = call.fixed(1), call.fixed(2)
    axes = call.fixed(3, np.arange(len(starts))) % len(call.shape)
    steps = call.fixed(4, np.ones(len(starts), int))
    rows = []
    for axis, *places in zip(*map(list, (axes, starts, ends, steps)), strict=True):
        call.require(call.shape[axis] != BATCH and places[2] > 0, "of another form")
        rows.append((int(axis), *slice(*places).indices(call.shape[axis])))
    names = "axes", "starts", "ends", "steps"
    columns = map(list, zip(*rows, strict=True))
    call.emit("Slice", call.inputs[0], **dict(zip(names, columns, strict=True)))


def clip(call: Call) -> None:
    """Between two numbers."""
    largest = np.finfo(np.float32).max
    low, high = call.fixed(1, -largest), call.fixed(2, largest)
    call.emit("Clip", call.inputs[0], min=float(low), max=float(high))


def leaky_relu(call: Call) -> None:
    """`relu(x) + slope min(x, 0)`."""
    emit, x = call.values.emit, call.inputs[0]
    slope = call.fixed(1, call.given.get("alpha"))
    call.emit("Add", emit("Relu", x), emit("Mul", emit("Min", x, 0), slope))


def elu(call: Call) -> None:
    """`relu(x) + alpha (exp(min(x, 0)) - 1)`."""
    emit, x = call.values.emit, call.inputs[0]
    power = emit("Sub", emit("Exp", emit("Min", x, 0)), 1)
    call.emit("Add", emit("Relu", x), emit("Mul", power, call.given["alpha"]))


def softplus(call: Call) -> None:
    """`relu(x) + log(1 + exp(-|x|))`, which does not overflow."""
    emit, x = call.values.emit, call.inputs[0]
    power = emit("Exp", emit("Neg", emit("Abs", x)))
    call.emit("Add", emit("Relu", x), emit("Log", emit("Add", power, 1)))


# Operators whose second input is a shape, which shape inference gives as well.
RESHAPING = "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Expand"
PLAIN = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "MatMul", "And", "Or", "Not"),
    *("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Abs", "Neg"),
    *("Relu", "Sigmoid", "Tanh", "Erf", "Exp", "Log", "Sqrt"),
)
FORMS: dict[str, Callable[[Call], None]] = {
    **dict.fromkeys(PLAIN, plain),
    **dict.fromkeys(("Conv", "MaxPool", "AveragePool"), layer),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), reduction),
    **dict.fromkeys(RESHAPING, reshape),
    **dict.fromkeys(("Identity", "Dropout"), identity),
    **dict.fromkeys(("Concat", "Softmax"), along_axis),
    **dict.fromkeys(("LeakyRelu", "PRelu"), leaky_relu),
    **{"ReduceSumSquare": reduction, "BatchNormalization": batch_norm, "Gemm": dense},
    **{"Expand": expand, "Transpose": transpose, "Slice": cut, "Pad": pad},
    **dict.fromkeys(("Cast", "CastLike"), cast),
    **{"Clip": clip, "Where": choice, "Einsum": einsum, "Elu": elu},
    **{"Softplus": softplus, "GlobalAveragePool": mean_of_pixels},
}
BROADCASTING = plain, choice  # a constant may stand for its copies
MOVING = (*RESHAPING, "Identity", "Transpose", "Slice", "Concat", "Pad")
