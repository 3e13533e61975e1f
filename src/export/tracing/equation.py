"""One equation of JAX, and its operands."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax.extend
import numpy as np

from src.export.graph import UnsupportedError
from src.export.tracing.builder import BATCH, Axes, Builder, Operand

Equation = Any  # jax.extend.core.JaxprEqn


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


def product(sizes: Iterable[int]) -> int:
    """The product of sizes, `BATCH` if one of them is."""
    found = list(sizes)
    return BATCH if BATCH in found else math.prod(found)


def rest(operand: Operand, *taken: Sequence[int]) -> list[int]:
    """The axes that are in none of the groups."""
    gone = {axis for group in taken for axis in group}
    return [axis for axis in range(len(operand.shape)) if axis not in gone]


def inner_program(equation: Equation) -> jax.extend.core.ClosedJaxpr | None:
    """The program of an equation that only calls it, such as `jit`."""
    if equation.primitive.name in ("scan", "while", "cond"):
        return None
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if program := equation.params.get(key):
            closed = isinstance(program, jax.extend.core.ClosedJaxpr)
            return program if closed else jax.extend.core.ClosedJaxpr(program, [])
    return None
