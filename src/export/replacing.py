"""A function of JAX with other operations in place of some primitives."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend import core

# From an equation and its operands to its result.
Replacement = Callable[[Any, Sequence[Any]], Any]


def with_replaced(
    function: Callable[[jax.Array], jax.Array], replacements: Mapping[str, Replacement]
) -> Callable[[jax.Array], jax.Array]:
    """The function of one array, with replacements by name of the primitive.

    They also apply inside of `jit` and the like, but not of loops and conditions.
    """

    def replaced(images: jax.Array) -> jax.Array:
        program = jax.make_jaxpr(function)(images)
        (result,) = evaluate(program, [images], replacements)
        return result

    return replaced


def evaluate(
    program: core.ClosedJaxpr,
    arguments: Sequence[Any],
    replacements: Mapping[str, Replacement],
) -> list[Any]:
    """The results of a program."""
    jaxpr = program.jaxpr
    known = dict(zip(jaxpr.constvars, program.consts, strict=True))
    known |= dict(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:  # noqa: ANN401 - a variable or a literal
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        inner = inner_program(equation)
        if equation.primitive.name in replacements:
            results = [replacements[equation.primitive.name](equation, operands)]
        elif inner:
            results = evaluate(inner, operands, replacements)
        else:
            found = bind(equation, operands)
            results = found if equation.primitive.multiple_results else [found]
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def bind(equation: Any, operands: Sequence[Any]) -> Any:  # noqa: ANN401 - JAX's
    """What the equation's own primitive gives."""
    params = equation.primitive.get_bind_params(equation.params)
    return equation.primitive.bind(*operands, **params)


def inner_program(equation: Any) -> core.ClosedJaxpr | None:  # noqa: ANN401 - JAX's
    """The program of an equation that only calls it, such as `jit`."""
    # Loops and conditions are not followed; the program of a reduction joins two
    # numbers.
    if equation.primitive.name in ("scan", "while", "cond", "reduce", "reduce_window"):
        return None
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if program := equation.params.get(key):
            closed = isinstance(program, core.ClosedJaxpr)
            return program if closed else core.ClosedJaxpr(program, [])
    return None
