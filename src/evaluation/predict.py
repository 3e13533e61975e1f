"""Predictions for a whole split, predictions.csv and probabilities.npz."""

from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from src.data.lazy_images import Images
from src.errors import DivergedError
from src.evaluation.decision import MOST_LIKELY, Decision, decide
from src.models.build import Model
from src.runtime.progress import with_progress
from src.signals import raise_if_stopped
from src.storage.json_files import DECIMALS
from src.storage.npz import compress_arrays
from src.storage.tables import csv_bytes

MAX_COLUMNS = 30  # classes that get a column; probabilities.npz has any number
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
    starts = range(0, len(images), FORWARD_BATCH)
    for start in with_progress(starts, len(starts), "scoring", "batch"):
        raise_if_stopped()
        batch = images[start : start + FORWARD_BATCH]
        # Padded to one size, so that it compiles once.
        padded = np.zeros((FORWARD_BATCH, *images.shape[1:]), np.uint8)
        padded[: len(batch)] = batch
        batches.append(np.asarray(forward(model, jax.device_put(padded)))[: len(batch)])
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
    decision: Decision = MOST_LIKELY,
) -> bytes:
    """predictions.csv: a row per test image, classes by name.

    With `reject_below`, the column `unsure` is true or false. Up to `MAX_COLUMNS`
    classes, the last columns are the probabilities: `p_` and the name of the class.

    Args:
        probabilities: `[examples, classes]`.
        labels: int32 `[examples]`.
        class_names: in the order of the classes.
        files: `[examples]`, the file of each image; empty for an array's.
        decision: how probabilities become answers.
    """
    predicted, confidence, unsure = decide(probabilities, decision)
    columns: dict[str, Sequence[object]] = {
        "index": range(len(labels)),
        "actual": [class_names[label] for label in labels],
        "predicted": [class_names[answer] for answer in predicted],
        "confidence": confidence.tolist(),
        "file": files,
    }
    if decision.reject_below is not None:
        columns["unsure"] = ["true" if each else "false" for each in unsure]
    if len(class_names) <= MAX_COLUMNS:
        for name, shares in zip(class_names, probabilities.T.tolist(), strict=True):
            columns[f"p_{name}"] = shares
    return csv_bytes(list(columns), zip(*columns.values(), strict=True))


def probabilities_npz(probabilities: np.ndarray, class_names: Sequence[str]) -> bytes:
    """probabilities.npz: `probabilities` and `class_names`, for any number of classes.

    Rounded like the table: of many classes, most are 0 then, and take no space.

    Args:
        probabilities: `[examples, classes]`.
        class_names: in the order of the classes.
    """
    rounded = probabilities.astype(np.float64).round(DECIMALS).astype(np.float32)
    arrays = {"probabilities": rounded, "class_names": np.array(class_names, str)}
    return bytes(compress_arrays(arrays))
