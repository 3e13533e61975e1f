"""Training losses."""

import jax
import jax.numpy as jnp
import optax

from src.data.examples import Batch


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Negative log-probability of each label, in nats.

    Args:
        logits: float `[batch, classes]`.
        labels: int32 `[batch]`, in [0, classes). Labels are checked when they are read:
            here an invalid one would give NaN.
        smoothing: label smoothing in [0, 1) (Szegedy et al. 2016, arXiv:1512.00567,
            section 7).

    Returns:
        float32 `[batch]`.
    """
    logits = logits.astype(jnp.float32)  # also with bfloat16 or float16 models
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if smoothing:
        uniform = -jax.nn.log_softmax(logits).mean(-1)
        losses = (1 - smoothing) * losses + smoothing * uniform
    return losses


def batch_losses(logits: jax.Array, batch: Batch, smoothing: float) -> jax.Array:
    """The cross-entropy of each example; with mixup, of both labels.

    Cross-entropy is linear in the target, so the loss of a mixed target is the weighted
    mean of two cross-entropies.

    Source: Zhang et al. 2018, arXiv:1710.09412, eq. 2.

    Args:
        logits: float `[batch, classes]`.
        batch: the batch that the logits belong to.
        smoothing: see `cross_entropy`.

    Returns:
        float32 `[batch]`, in nats.
    """
    losses = cross_entropy(logits, batch.labels, smoothing)
    if batch.partners is None:
        return losses
    others = cross_entropy(logits, batch.partners, smoothing)
    return batch.shares * losses + (1 - batch.shares) * others
