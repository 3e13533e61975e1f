"""Predictions for a whole split, and predictions.csv."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.data.lazy_images import Images
from src.errors import DivergedError
from src.models.build import Model
from src.signals import raise_if_stopped
from src.storage.tables import csv_bytes

PREDICTION_COLUMNS = ("index", "actual", "predicted", "confidence", "file")
FORWARD_BATCH = 256  # examples per forward pass; affects memory, not results


def predict(model: Model, images: Images) -> np.ndarray:
    """Log-probabilities, float32 `[examples, classes]`, in the order of the images.

    Args:
        model: the network.
        images: uint8 `[examples, height, width, channels]`, in memory or on disk.

    Raises:
        DivergedError: a number is not finite.
    """
    batches = []
    for start in range(0, len(images), FORWARD_BATCH):
        raise_if_stopped()
        batch = images[start : start + FORWARD_BATCH]
        # Padded to one size, so that it compiles once.
        padded = np.zeros((FORWARD_BATCH, *images.shape[1:]), np.uint8)
        padded[: len(batch)] = batch
        batches.append(np.asarray(forward(model, jnp.asarray(padded)))[: len(batch)])
    log_probabilities = np.concatenate(batches)
    invalid = np.count_nonzero(~np.isfinite(log_probabilities))
    if invalid:
        raise DivergedError(
            f"log-probabilities: expected finite numbers, found {invalid} that are "
            "not. Train again with a lower lr."
        )
    return log_probabilities


@nnx.jit
def forward(model: Model, images: jax.Array) -> jax.Array:
    """Log-probabilities `[batch, classes]` of uint8 images."""
    return nnx.log_softmax(model(images))


def predictions_csv(
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    files: Sequence[str],
) -> bytes:
    """predictions.csv: a row per test image, classes by name.

    Args:
        probabilities: `[examples, classes]`.
        labels: int32 `[examples]`.
        class_names: in the order of the classes.
        files: `[examples]`, the file of each image; empty for an array's.
    """
    predicted = probabilities.argmax(1)
    rows = [
        (index, class_names[label], class_names[answer], float(row[answer]), file)
        for index, (label, answer, row, file) in enumerate(
            zip(labels, predicted, probabilities, files, strict=True)
        )
    ]
    return csv_bytes(PREDICTION_COLUMNS, rows)
