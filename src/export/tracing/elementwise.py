"""Primitives that treat all elements alike."""

import math
from collections.abc import Sequence

import numpy as np

from src.export.tracing.builder import Builder, Operand
from src.export.tracing.equation import Equation, is_scalar, require

ELEMENTWISE = {
    **{"add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "pow": "Pow"},
    **{"min": "Min", "gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less"},
    **{"le": "LessOrEqual", "eq": "Equal", "and": "And", "or": "Or", "not": "Not"},
    **{"logistic": "Sigmoid", "tanh": "Tanh", "erf": "Erf", "exp": "Exp", "log": "Log"},
    **{"sqrt": "Sqrt", "abs": "Abs", "neg": "Neg"},
}
ONE = np.array(1, np.float32)


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
    bounds = [
        float(each) if isinstance(each, np.ndarray) and each.ndim == 0 else math.inf
        for each in (low, high)
    ]
    require(bool(np.isfinite(bounds).all()), "clamp between arrays or infinities")
    return builder.elementwise("Clip", value, min=bounds[0], max=bounds[1])


def choose(builder: Builder, _: Equation, operands: Sequence[Operand]) -> Operand:
    """`select_n(condition, if_false, if_true)`."""
    condition, if_false, if_true = operands
    if isinstance(condition, np.ndarray) and np.ptp(condition.astype(int)) == 0:
        return if_true if condition.flat[0] else if_false
    return builder.elementwise("Where", condition, if_true, if_false)


def reciprocal_root(
    builder: Builder, _: Equation, operands: Sequence[Operand]
) -> Operand:
    """1 / sqrt(x)."""
    return builder.elementwise("Div", ONE, builder.elementwise("Sqrt", operands[0]))


def square(builder: Builder, _: Equation, operands: Sequence[Operand]) -> Operand:
    """X * x."""
    return builder.elementwise("Mul", operands[0], operands[0])


def exponential_less_one(
    builder: Builder, _: Equation, operands: Sequence[Operand]
) -> Operand:
    """exp(x) - 1."""
    return builder.elementwise("Sub", builder.elementwise("Exp", operands[0]), ONE)


def logarithm_plus_one(
    builder: Builder, _: Equation, operands: Sequence[Operand]
) -> Operand:
    """log(x + 1)."""
    return builder.elementwise("Log", builder.elementwise("Add", operands[0], ONE))


def complementary_error(
    builder: Builder, _: Equation, operands: Sequence[Operand]
) -> Operand:
    """1 - erf(x)."""
    return builder.elementwise("Sub", ONE, builder.elementwise("Erf", operands[0]))


def unequal(builder: Builder, _: Equation, operands: Sequence[Operand]) -> Operand:
    """Not (a == b)."""
    return builder.elementwise("Not", builder.elementwise("Equal", *operands))


def divide(builder: Builder, _: Equation, operands: Sequence[Operand]) -> Operand:
    """A quotient, or a mean."""
    return builder.divide(*operands)
