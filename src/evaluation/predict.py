"""Forward passes over a whole split, and their table."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.errors import DivergedError
from src.models.build import Model
from src.signals import raise_if_stopped
from src.storage.tables import csv_bytes

PREDICTIONS = ("index", "actual", "predicted", "confidence")
BATCH = 256  # examples per forward pass: memory, not results


def predict(model: Model, images: np.ndarray) -> np.ndarray:
    """Log-probabilities, float32 `[examples, classes]`, an image a row, in order.

    Args:
        model: the network.
        images: uint8 `[examples, height, width, channels]`.

    Raises:
        DivergedError: a number is not finite.
    """
    batches = []
    for start in range(0, len(images), BATCH):
        raise_if_stopped()
        batch = images[start : start + BATCH]
        # Filled up, so that one compilation serves all; the filling is cut off again.
        full = np.zeros((BATCH, *images.shape[1:]), np.uint8)
        full[: len(batch)] = batch
        batches.append(np.asarray(forward(model, jnp.asarray(full)))[: len(batch)])
    log_probabilities = np.concatenate(batches)
    if not np.isfinite(log_probabilities).all():
        raise DivergedError(
            "expected finite log-probabilities, found others: the weights are useless. "
            "Train the network anew with a lower lr."
        )
    return log_probabilities


@nnx.jit
def forward(model: Model, images: jax.Array) -> jax.Array:
    """Log-probabilities `[batch, classes]` of uint8 images."""
    return nnx.log_softmax(model(images))


def predictions_csv(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> bytes:
    """predictions.csv: a row per test image, classes by name."""
    predicted = probabilities.argmax(1)
    rows = [
        (index, class_names[label], class_names[answer], float(row[answer]))
        for index, (label, answer, row) in enumerate(
            zip(labels, predicted, probabilities, strict=True)
        )
    ]
    return csv_bytes(PREDICTIONS, rows)
