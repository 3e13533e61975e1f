"""Traces a network to a graph."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax import export

from src.export.graph import INPUT, OUTPUT, Graph, UnsupportedError
from src.export.tracing.builder import BATCH, Builder, Operand, Value
from src.export.tracing.elementwise import ELEMENTWISE
from src.export.tracing.equation import inner_program, sizes_of
from src.export.tracing.folding import fold
from src.export.tracing.lowering import lower


def trace_graph(
    logits: Callable[[jax.Array], jax.Array], image_shape: tuple[int, int, int]
) -> Graph:
    """The graph of a network, with a softmax at its end.

    Constants are computed here, and scales and shifts are folded into the layer before
    them: so BatchNorm and standardized weights cost nothing.

    Args:
        logits: from uint8 `[batch, *image_shape]` to float32 `[batch, classes]`.
        image_shape: height, width, channels.

    Raises:
        UnsupportedError: no operator stands for an operation of the network.
    """
    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.uint8)
    program = jax.make_jaxpr(logits)(images)
    builder = Builder()
    stored = (BATCH, *image_shape)
    builder.shapes[INPUT] = stored
    given = builder.emit("Cast", [INPUT], stored, to="float32")
    (answer,) = evaluate(builder, program, [given])
    if not isinstance(answer, Value) or len(answer.shape) != 2:
        raise UnsupportedError("an answer that is not of images and classes")
    last = builder.emit("Softmax", [builder.plain(answer)], answer.shape, axis=1)
    return fold(builder, last.name, OUTPUT)


def evaluate(
    builder: Builder,
    program: Any,  # noqa: ANN401 - a closed jaxpr
    arguments: Sequence[Operand],
) -> list[Operand]:
    """Emits the nodes of a closed jaxpr; computes at once what is constant."""
    jaxpr = program.jaxpr
    known: dict[Any, Operand] = dict(zip(jaxpr.invars, arguments, strict=True))
    for variable, constant in zip(jaxpr.constvars, program.consts, strict=True):
        known[variable] = as_constant(constant)

    def read(atom: Any) -> Operand:  # noqa: ANN401 - a variable or a literal
        if isinstance(atom, jax.extend.core.Literal):
            return np.asarray(atom.val)
        return known[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        inner = inner_program(equation)
        if is_constant(equation, operands):
            results = compute(equation, operands)
        elif is_number(equation, operands):
            results = [
                np.asarray(
                    equation.primitive.bind(
                        *map(jnp.asarray, np.broadcast_arrays(*operands)),
                        **equation.params,
                    )
                )
            ]
        elif inner:
            results = evaluate(builder, inner, operands)
        else:
            results = lower(builder, equation, operands)
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def as_constant(array: Any) -> Any:  # noqa: ANN401 - a random key stays JAX's
    """A NumPy array; keys of random numbers cannot be one."""
    if jnp.issubdtype(array.dtype, jax.dtypes.extended):
        return array
    return np.asarray(array)


def is_constant(equation: Any, operands: Sequence[Operand]) -> bool:  # noqa: ANN401
    """Whether an equation's results are known and do not grow with the batch."""
    if any(isinstance(operand, Value) for operand in operands):
        return False
    variables = (*equation.invars, *equation.outvars)
    return not any(BATCH in sizes_of(variable.aval) for variable in variables)


def is_number(equation: Any, operands: Sequence[Operand]) -> bool:  # noqa: ANN401
    """Whether a batch of equal constants becomes one: it is kept without the batch."""
    elementwise = equation.primitive.name in {*ELEMENTWISE, "max", "div", "integer_pow"}
    return elementwise and not any(isinstance(each, Value) for each in operands)


def compute(equation: Any, operands: Sequence[Any]) -> list[Any]:  # noqa: ANN401
    """The results of an equation of constants.

    Raises:
        UnsupportedError: it is the size of the batch.
    """
    if equation.primitive.name == "dim_as_value":
        raise UnsupportedError("arithmetic with the size of the batch")
    given = [
        np.broadcast_to(operand, variable.aval.shape)
        if isinstance(operand, np.ndarray)
        else operand
        for operand, variable in zip(operands, equation.invars, strict=True)
    ]
    given = [jnp.asarray(each) for each in given]
    results = equation.primitive.bind(*given, **equation.params)
    several = equation.primitive.multiple_results
    return [as_constant(each) for each in (results if several else [results])]
