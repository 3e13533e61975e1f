"""Training losses."""

import jax
import jax.numpy as jnp
import numpy as np
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
    """The loss of each example: its cross-entropy times the weight of its class.

    With mixup and cutmix that of both labels. Cross-entropy is linear in the target, so
    the loss of a mixed target is the weighted mean of two cross-entropies.

    Source: Zhang et al. 2018, arXiv:1710.09412, eq. 2.

    Args:
        logits: float `[batch, classes]`.
        batch: the batch that the logits belong to.
        smoothing: see `cross_entropy`.

    Returns:
        float32 `[batch]`, in nats.
    """
    losses = cross_entropy(logits, batch.labels, smoothing)
    if batch.weights is not None:
        losses *= batch.weights
    if batch.partners is None:
        return losses
    others = cross_entropy(logits, batch.partners, smoothing)
    if batch.partner_weights is not None:
        others *= batch.partner_weights
    return batch.shares * losses + (1 - batch.shares) * others


def class_weights(labels: np.ndarray, classes: int, power: float) -> np.ndarray | None:
    """The weight of each class: its number of examples to the power of `-power`.

    Scaled so that the mean over the examples is 1. The loss of a batch is divided by
    its size, not by the sum of its weights: so the mean over slices or devices equals
    the mean over the batch.

    Args:
        labels: int `[examples]`, of the training examples.
        classes: the number of classes; one without examples gets weight 0.
        power: `class_weight_power`, in [0, 1].

    Returns:
        float32 `[classes]`; None where all weights are 1.
    """
    if power == 0:
        return None
    counts = np.bincount(labels, minlength=classes)
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** -power, 0.0)
    return (weights * len(labels) / (counts @ weights)).astype(np.float32)


def with_class_weights(batch: Batch, weights: jax.Array | None) -> Batch:
    """The batch with the weight of each label's class: float32 `[classes]`, or None."""
    if weights is None:
        return batch
    batch = batch._replace(weights=weights[batch.labels])
    if batch.partners is None:
        return batch
    return batch._replace(partner_weights=weights[batch.partners])
