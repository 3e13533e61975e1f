"""A batch in slices: what goes from layer to layer then stays in the CPU's caches."""

from collections.abc import Callable

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name

MOST, LEAST = 32, 16  # images to a slice
KEPT = "kept"


def save_for_backward(values: jax.Array) -> jax.Array:
    """Marks what `in_slices` keeps for the gradient; all else is computed again."""
    return checkpoint_name(values, KEPT)


def in_slices(
    function: Callable[[jax.Array], jax.Array], images: jax.Array
) -> jax.Array:
    """`function(images)`, on CPU a slice at a time where the batch divides into such.

    Args:
        function: treats each image alone; the same on all devices.
        images: `[batch, ...]`.
    """
    batch = images.shape[0]
    # An exported function's batch is a symbol, and a GPU wants all images at once.
    if not isinstance(batch, int) or jax.default_backend() != "cpu":
        return function(images)
    sizes = [size for size in range(MOST, LEAST - 1, -1) if batch % size == 0]
    if batch <= MOST or not sizes:
        return function(images)
    # To compute the cheap layers again costs less than to write and read their numbers.
    policy = jax.checkpoint_policies.save_only_these_names(KEPT)
    thrifty = jax.checkpoint(function, policy=policy, prevent_cse=False)
    outputs = lax.map(thrifty, images.reshape(-1, sizes[0], *images.shape[1:]))
    return outputs.reshape(batch, *outputs.shape[2:])
