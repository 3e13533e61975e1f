"""What training makes small."""

import jax
import jax.numpy as jnp
import optax

from src.data.examples import Batch


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Negative log-probability of each label, in nats.

    Args:
        logits: float `[batch, classes]`.
        labels: int32 `[batch]`, in [0, classes): another label would give NaN, which is
            why they are checked when they are read.
        smoothing: share of each label's probability that is spread evenly over all
            classes, in [0, 1) (Szegedy et al. 2016, arXiv:1512.00567, section 7).

    Returns:
        float32 `[batch]`.
    """
    logits = logits.astype(jnp.float32)  # however short the network's own numbers are
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if smoothing:
        even = -jax.nn.log_softmax(logits).mean(-1)
        losses = (1 - smoothing) * losses + smoothing * even
    return losses


def batch_losses(logits: jax.Array, batch: Batch, smoothing: float) -> jax.Array:
    """The cross-entropy of each example, of both its labels where two were mixed.

    Source: Zhang et al. 2018, arXiv:1710.09412, eq. 2: linear in the target, it is the
    shares' mean of two cross-entropies.

    Args:
        logits: float `[batch, classes]`.
        batch: what they were computed from.
        smoothing: see `cross_entropy`.

    Returns:
        float32 `[batch]`, in nats.
    """
    losses = cross_entropy(logits, batch.labels, smoothing)
    if batch.partners is None:
        return losses
    others = cross_entropy(logits, batch.partners, smoothing)
    return batch.shares * losses + (1 - batch.shares) * others
