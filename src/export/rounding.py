"""How far two correct float32 computations of a network may differ.

A sum of `n` float32 products has an error of about `sqrt(n) * u` relative to the sum of
the products' sizes, `u = 2**-24`, in whatever order a runtime adds (Higham and Mary
2019, SIAM J. Sci. Comput. 41, "A new approach to probabilistic rounding error
analysis"). The errors of the layers add up in the logits. A network can amplify them,
as by the division by a small deviation; so it is also measured how far its logits move
when every number changes in the last bit (Parker 1997, "Monte Carlo arithmetic"). The
softmax turns an error `e` of all logits into at most `2 * p * (1 - p) * e` in a
probability `p`.
"""

from collections.abc import Callable, Iterator, Sequence
from math import prod, sqrt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from src.export.replacing import bind, with_replaced

UNIT = 2.0**-24  # the largest relative error of rounding to float32
LAST_BIT = 2.0**-23  # of a float32 in [1, 2)
SUMS = "dot_general", "conv_general_dilated"
ROUNDED = *SUMS, "add", "sub", "mul", "div"
SAFETY = 2  # a runtime rounds more often than the program has operations
SMALLEST = 1e-5  # allowed in any case: runtimes approximate exp, tanh and the like


def sum_lengths(
    logits: Callable[[jax.Array], jax.Array], image_shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The number of terms of each layer's sums, in order.

    Args:
        logits: from uint8 `[batch, *image_shape]`.
        image_shape: height, width, channels.
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)
    return tuple(lengths_in(jax.make_jaxpr(logits)(images).jaxpr))


def lengths_in(program: Any) -> Iterator[int]:  # noqa: ANN401 - a jaxpr
    """The lengths of the sums in a jaxpr and in the jaxprs it calls."""
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


def largest_size(logits: Callable[[jax.Array], jax.Array], images: np.ndarray) -> float:
    """The largest sum of products' sizes in the last layer.

    The errors of all layers are relative to it. It can be far larger than the logits.

    Args:
        logits: from uint8 `[batch, height, width, channels]`.
        images: some of them.
    """

    def sizes(batch: jax.Array) -> jax.Array:
        found: list[jax.Array] = [jnp.ones(1)]

        def record(equation: Any, operands: Sequence[Any]) -> jax.Array:  # noqa: ANN401
            found.append(bind(equation, [jnp.abs(operand) for operand in operands]))
            return bind(equation, operands)

        with_replaced(logits, dict.fromkeys(SUMS, record))(batch)
        return found[-1].max()

    return float(jax.jit(sizes)(jnp.asarray(images)))


def measured_change(
    logits: Callable[[jax.Array], jax.Array], images: np.ndarray
) -> float:
    """How far a logit moves when the network's numbers change in the last bit.

    Args:
        logits: from uint8 `[batch, height, width, channels]`.
        images: some of them.
    """
    random = np.random.default_rng(0)

    def change(equation: Any, operands: Sequence[Any]) -> jax.Array:  # noqa: ANN401
        result: jax.Array = bind(equation, operands)
        if result.dtype != jnp.float32:
            return result
        signs = random.choice(np.array([-1, 1], np.float32), result.shape[-1:])
        return result * jnp.broadcast_to(1 + LAST_BIT * signs, result.shape)

    @jax.jit
    def largest(batch: jax.Array) -> jax.Array:
        changed = with_replaced(logits, dict.fromkeys(ROUNDED, change))(batch)
        return jnp.abs(changed - logits(batch)).max()

    return float(largest(jnp.asarray(images)))


def logit_error(logits: Callable[[jax.Array], jax.Array], images: np.ndarray) -> float:
    """The error of a logit that rounding explains.

    Args:
        logits: from uint8 `[batch, height, width, channels]`.
        images: some of them, for the sizes of the network's numbers.
    """
    sums = sum_lengths(logits, images.shape[1:])
    summed = UNIT * sum(map(sqrt, sums)) * max(1.0, largest_size(logits, images))
    return max(summed, SAFETY * measured_change(logits, images))


def allowed_differences(expected: np.ndarray, error: float) -> np.ndarray:
    """The largest difference in probability that rounding explains, for each image.

    Args:
        expected: the network's probabilities, `[images, classes]`.
        error: see `logit_error`.
    """
    sensitivity = 2 * (expected * (1 - expected)).max(1)
    return np.maximum(SMALLEST, sensitivity * error)
