"""Replaces erf, which GELU is made of, for networks of 8-bit integers.

TensorFlow Lite has no erf. Its converter writes polynomials whose values exceed what 8
bits can scale, and the interpreter aborts. The form with tanh differs by at most 5e-4
from erf, much less than one of 256 steps. It is that of GELU (Hendrycks and Gimpel
2016, arXiv:1606.08415).
"""

from collections.abc import Callable, Sequence
from math import pi, sqrt
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from src.export.tracing.equation import inner_program


def erf_by_tanh(
    function: Callable[[jax.Array], jax.Array],
) -> Callable[[jax.Array], jax.Array]:
    """The same function of one array, with tanh in place of erf."""

    def replaced(images: jax.Array) -> jax.Array:
        program = jax.make_jaxpr(function)(images)
        (result,) = evaluate(program, [images])
        return result

    return replaced


def evaluate(program: core.ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
    """The results of a program."""
    jaxpr = program.jaxpr
    known = dict(zip(jaxpr.constvars, program.consts, strict=True))
    known |= dict(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:  # noqa: ANN401 - a variable or a literal
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        inner = inner_program(equation)
        if equation.primitive.name in ("erf", "erfc"):
            value = tanh_form(operands[0])
            results = [value if equation.primitive.name == "erf" else 1 - value]
        elif inner:
            results = evaluate(inner, operands)
        else:
            params = equation.primitive.get_bind_params(equation.params)
            found = equation.primitive.bind(*operands, **params)
            results = found if equation.primitive.multiple_results else [found]
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def tanh_form(value: jax.Array) -> jax.Array:
    """Nearly erf: GELU's tanh form, solved for erf."""
    cubic = value + 0.08943 * value**3
    return jnp.tanh(2 / sqrt(pi) * cubic)
