"""What training makes small."""

import jax
import optax


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
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if smoothing:
        even = -jax.nn.log_softmax(logits).mean(-1)
        losses = (1 - smoothing) * losses + smoothing * even
    return losses
