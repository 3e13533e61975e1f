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

from src.export.replacing import with_replaced


def erf_by_tanh(
    function: Callable[[jax.Array], jax.Array],
) -> Callable[[jax.Array], jax.Array]:
    """The same function of one array, with tanh in place of erf."""
    return with_replaced(function, {"erf": tanh_form, "erfc": one_less_tanh_form})


def tanh_form(_: object, operands: Sequence[Any]) -> jax.Array:
    """Nearly erf: GELU's tanh form, solved for erf."""
    (value,) = operands
    return jnp.tanh(2 / sqrt(pi) * (value + 0.08943 * value**3))


def one_less_tanh_form(_: object, operands: Sequence[Any]) -> jax.Array:
    """Nearly erfc."""
    return 1 - tanh_form(_, operands)
