"""What each of JAX's primitives becomes in a graph.

A function takes the builder, the equation and its operands, and returns the result.
"""

from collections.abc import Callable, Sequence

import numpy as np

from src.export.graph import UnsupportedError
from src.export.tracing import elementwise, layers, shapes
from src.export.tracing.builder import Builder, Operand
from src.export.tracing.equation import Equation, is_scalar

Lowering = Callable[[Builder, Equation, Sequence[Operand]], Operand]
UNCHANGED = {"copy", "copy_p", "name", "optimization_barrier", "stop_gradient"}
STRUCTURAL = {"convert_element_type", "reshape", "squeeze", "transpose", "gather"}
OF_BYTES = STRUCTURAL | {"broadcast_in_dim", "slice", "concatenate"}
LOWERINGS: dict[str, Lowering] = {
    "max": elementwise.maximum,
    "convert_element_type": elementwise.cast,
    "integer_pow": elementwise.integer_power,
    "clamp": elementwise.clamp,
    "broadcast_in_dim": shapes.broadcast_in_dim,
    "reshape": shapes.reshape,
    "squeeze": shapes.reshape,
    "expand_dims": shapes.reshape,
    "transpose": shapes.transpose,
    "conv_general_dilated": layers.convolve,
    "dot_general": layers.multiply_matrices,
    "reduce_window_max": layers.pool,
    "reduce_window_sum": layers.pool,
    "concatenate": shapes.concatenate,
    "stack": shapes.stack,
    "pad": shapes.pad,
    "slice": shapes.cut,
    "gather": shapes.take_range,
    "rsqrt": elementwise.reciprocal_root,
    "div": elementwise.divide,
    "square": elementwise.square,
    "expm1": elementwise.exponential_less_one,
    "log1p": elementwise.logarithm_plus_one,
    "erfc": elementwise.complementary_error,
    "ne": elementwise.unequal,
    "select_n": elementwise.choose,
    "reduce_window_min": layers.negative_pool,
    **dict.fromkeys(layers.REDUCTIONS, layers.reduce),
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
    if (whole and name not in OF_BYTES) or result not in (np.float32, bool, np.uint8):
        raise UnsupportedError(f"{name} of {', '.join(map(str, whole or {result}))}")
    if name in UNCHANGED or (name in STRUCTURAL and is_scalar(operands[0])):
        return [operands[0]]
    if name in elementwise.ELEMENTWISE:
        return [builder.elementwise(elementwise.ELEMENTWISE[name], *operands)]
    if name == "split":
        return shapes.split(builder, equation, operands)
    if name not in LOWERINGS:
        raise UnsupportedError(name)
    return [LOWERINGS[name](builder, equation, operands)]
