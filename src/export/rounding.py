"""How far two correct float32 computations of a network may differ.

A sum of `n` float32 products has an error of about `sqrt(n) * u` relative to the sum of
the products' sizes, `u = 2**-24`, in whatever order a runtime adds (Higham and Mary
2019, SIAM J. Sci. Comput. 41, "A new approach to probabilistic rounding error
analysis"). The errors of the layers add up in the logits. The softmax turns an error
`e` of all logits into at most `2 * p * (1 - p) * e` in a probability `p`.
"""

from collections.abc import Callable, Iterator
from math import prod, sqrt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

UNIT = 2.0**-24  # the largest relative error of rounding to float32
SMALLEST = 1e-5  # allowed in any case: runtimes approximate exp, tanh and the like


def sum_lengths(
    logits: Callable[[jax.Array], jax.Array], image_shape: tuple[int, int, int]
) -> tuple[int, ...]:
    """The number of terms of each layer's sums, in order.

    Args:
        logits: from uint8 `[batch, *image_shape]`.
        image_shape: height, width, channels.
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)
    return tuple(lengths_in(jax.make_jaxpr(logits)(images).jaxpr))


def lengths_in(program: Any) -> Iterator[int]:  # noqa: ANN401 - a jaxpr
    """The lengths of the sums in a jaxpr and in those that it calls."""
    for equation in program.eqns:
        match equation.primitive.name:
            case "conv_general_dilated":
                filters = equation.params["dimension_numbers"].rhs_spec[0]
                kernel = list(equation.invars[1].aval.shape)
                del kernel[filters]
                yield prod(kernel)
            case "dot_general":
                axes = equation.params["dimension_numbers"][0][0]
                yield prod(equation.invars[0].aval.shape[axis] for axis in axes)
            case "reduce_sum":
                shape = equation.invars[0].aval.shape
                yield prod(shape[axis] for axis in equation.params["axes"])
        for inner in inner_programs(equation):
            yield from lengths_in(inner)


def inner_programs(equation: Any) -> Iterator[Any]:  # noqa: ANN401 - JAX's
    """The jaxprs that an equation calls, such as the branches of a condition."""
    for value in equation.params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, core.ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, core.Jaxpr):
                yield each


def allowed_differences(expected: np.ndarray, sums: tuple[int, ...]) -> np.ndarray:
    """The largest difference in probability that rounding explains, for each image.

    Args:
        expected: the network's probabilities, `[images, classes]`.
        sums: see `sum_lengths`.
    """
    # The logits' range stands for the size of what the last layer adds up.
    smallest = np.maximum(expected.min(1), np.finfo(np.float32).tiny)
    size = np.maximum(1, -np.log(smallest))
    in_logits = UNIT * sum(map(sqrt, sums)) * size
    sensitivity = 2 * (expected * (1 - expected)).max(1)
    return np.maximum(SMALLEST, sensitivity * in_logits)
