"""A batch in slices, small enough for activations to stay in the CPU's caches."""

import math
from collections.abc import Callable

import jax
from flax import nnx
from flax.errors import TraceContextError
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from src.models.frozen import Frozen
from src.sharding import within_device

MAX_IMAGES = 16  # of a slice
MAX_PIXELS = 4096  # of a slice, if a device is a core; more cores have more cache
SAVED = "saved_for_backward"
STATE = nnx.Not(nnx.Any(nnx.Param, Frozen))


def save_for_backward(values: jax.Array) -> jax.Array:
    """Marks values that `in_slices` saves for the backward pass.

    The backward pass recomputes all others.
    """
    return checkpoint_name(values, SAVED)


def in_slices(
    function: Callable[[jax.Array], jax.Array], images: jax.Array
) -> jax.Array:
    """`function(images)`; on CPU, slice by slice if the batch divides evenly.

    A slice has at most `MAX_IMAGES`, and where devices share a batch `MAX_PIXELS`, but
    at least one image. If no size from half of that upwards divides the batch, it is
    the next larger one that does, up to `MAX_IMAGES`; otherwise there is one slice.

    Args:
        function: maps each image on its own; the same on all devices. If it is a method
            of a network with state other than parameters, such as the statistics of
            `nnx.BatchNorm`, it gets the whole batch at once.
        images: `[batch, height, width, ...]`.

    Raises:
        ValueError: another function changes such state.
    """
    batch = images.shape[0]
    owner = getattr(function, "__self__", None)
    if isinstance(owner, nnx.Module) and jax.tree.leaves(nnx.state(owner, STATE)):
        return function(images)
    # An exported function has a symbolic batch size. A GPU is faster on all images.
    if not isinstance(batch, int) or jax.default_backend() != "cpu":
        return function(images)
    most = MAX_IMAGES
    if within_device():
        most = max(1, min(most, MAX_PIXELS // math.prod(images.shape[1:3])))
    candidates = *range(most, (most - 1) // 2, -1), *range(most + 1, MAX_IMAGES + 1)
    sizes = [size for size in candidates if batch % size == 0]
    if batch <= most or not sizes:
        return function(images)
    # Recomputing the cheap layers takes less time than storing their outputs.
    policy = jax.checkpoint_policies.save_only_these_names(SAVED)
    rematerialized = jax.checkpoint(function, policy=policy, prevent_cse=False)
    slices = images.reshape(-1, sizes[0], *images.shape[1:])
    try:
        outputs = lax.map(rematerialized, slices)
    except TraceContextError as error:
        raise ValueError(
            f"in_slices: expected a method of the network, found {function}, which "
            "changes state, such as statistics or a random stream. Pass the method."
        ) from error
    return outputs.reshape(batch, *outputs.shape[2:])
