"""What training makes small."""

import jax
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Negative log-probability of each label, in nats.

    Args:
        logits: float `[batch, classes]`.
        labels: int32 `[batch]`, in [0, classes): another label would give NaN, which is
            why they are checked when they are read.

    Returns:
        float32 `[batch]`.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
