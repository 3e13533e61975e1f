"""Metrics of a split: counts, divided once, in double precision."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from src.evaluation.one_vs_rest import class_areas, mean_areas
from src.evaluation.risk_coverage import risk_coverage

CALIBRATION_BINS = 15
SHOWN_CLASSES = 10  # in a warning
Z_95 = 1.959963984540054  # the normal distribution's 97.5 % quantile


def test_metrics(
    log_probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: list[str],
    top_k: int,
    predicted: np.ndarray | None = None,  # noqa: PT028 - this is no test
) -> dict[str, Any]:
    """All test metrics; every example counts exactly once.

    Args:
        log_probabilities: `[examples, classes]`.
        labels: int32 `[examples]`.
        class_names: one for each class.
        top_k: see `top_k_accuracy`.
        predicted: int `[examples]`; None: the most likely class of each.
    """
    chosen = log_probabilities[np.arange(len(labels)), labels]
    probabilities = np.exp(log_probabilities)
    if predicted is None:
        predicted = log_probabilities.argmax(1)
    confusion = confusion_matrix(labels, predicted, len(class_names))
    correct, count = int(np.trace(confusion)), len(labels)
    low, high = wilson_interval(correct, count)
    per_class = class_scores(confusion)
    areas = class_areas(probabilities, labels)
    confidence = probabilities[np.arange(count), predicted]
    return {
        "loss": -float(chosen.sum(dtype=np.float64)) / count,
        "accuracy": correct / count,
        "accuracy_low": low,
        "accuracy_high": high,
        "balanced_accuracy": balanced_accuracy(confusion),
        "calibration_error": expected_calibration_error(
            probabilities, labels, bins=CALIBRATION_BINS
        ),
        "correct": correct,
        "examples": count,
        **macro_averages(confusion),
        "top_k": top_k_accuracy(log_probabilities, labels, top_k),
        **mean_areas(areas),
        "aurc": risk_coverage(confidence, predicted == labels).area,
        "classes": {
            class_name: {
                **{name: float(scores[index]) for name, scores in per_class.items()},
                **areas[index],
                "examples": int(confusion[index].sum()),
            }
            for index, class_name in enumerate(class_names)
        },
    }


def mistakes_by_confidence(
    labels: np.ndarray, predicted: np.ndarray, confidence: np.ndarray
) -> np.ndarray:
    """Rows of the wrong predictions, the most confident first.

    Args:
        labels: int `[examples]`.
        predicted: int `[examples]`.
        confidence: `[examples]`, of the predicted class.
    """
    wrong = np.flatnonzero(predicted != labels)
    return wrong[np.argsort(-confidence[wrong], kind="stable")]


def confusion_matrix(
    labels: np.ndarray, predicted: np.ndarray, classes: int
) -> np.ndarray:
    """Counts by actual class (row) and predicted class (column): int64, square."""
    pairs = labels.astype(np.int64) * classes + predicted
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 per class; 0 where the denominator is 0.

    F1 = 2 tp / (2 tp + fp + fn).
    """
    true = np.diag(confusion)
    predicted, actual = confusion.sum(0), confusion.sum(1)
    return {
        "precision": true / np.maximum(predicted, 1),
        "recall": true / np.maximum(actual, 1),
        "f1": 2 * true / np.maximum(predicted + actual, 1),
    }


def macro_averages(confusion: np.ndarray) -> dict[str, float]:
    """Macro averages of precision, recall and F1 over classes.

    A class without examples and without predictions is left out.
    """
    seen = (confusion.sum(0) + confusion.sum(1)) > 0
    scores = class_scores(confusion)
    return {name: float(values[seen].mean()) for name, values in scores.items()}


def balanced_accuracy(confusion: np.ndarray) -> float:
    """The mean recall of the classes that have examples.

    Source: Brodersen et al. 2010, ICPR, pp. 3121-3124.
    """
    return float(class_scores(confusion)["recall"][confusion.sum(1) > 0].mean())


def prediction_warning(
    actual: np.ndarray, predicted: np.ndarray, class_names: Sequence[str], split: str
) -> str:
    """A sentence about classes that a model never predicts; empty if there are none.

    Args:
        actual: the number of examples of each class, int `[classes]`.
        predicted: how many examples were predicted as each class, int `[classes]`.
        class_names: one for each class.
        split: its name, for the message.
    """
    never = np.flatnonzero((actual > 0) & (predicted == 0))
    if not len(never):
        return ""
    total, missed = int(actual.sum()), int(actual[never].sum())
    if np.count_nonzero(predicted) == 1:
        only = class_names[int(predicted.argmax())]
        return (
            f"the model predicts {only} for all {total} {split} images. Lower lr, or "
            "train longer."
        )
    names = ", ".join(class_names[number] for number in never[:SHOWN_CLASSES])
    more = len(never) - SHOWN_CLASSES
    return (
        f"the model never predicts {names}{f' and {more} more' if more > 0 else ''} "
        f"({missed} of {total} {split} images). Train longer, or lower lr; rare "
        "classes: see sampling_power."
    )


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """The share of labels among the `k` classes with the highest scores."""
    chosen = scores[np.arange(len(labels)), labels]
    # Among equal scores the first class ranks higher, as with `argmax`.
    first = np.arange(scores.shape[1]) < labels[:, None]
    above = ((scores > chosen[:, None]) | ((scores == chosen[:, None]) & first)).sum(1)
    return int((above < k).sum()) / len(labels)


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """95 % confidence interval of a proportion; also valid near 0 and 1.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22, pp. 209-212.
    """
    share, z2 = correct / count, Z_95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    spread = math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    half = Z_95 * spread / (1 + z2 / count)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, *, bins: int
) -> float:
    """Mean gap between confidence and accuracy, weighted by bin size; 0 is calibrated.

    Args:
        probabilities: `[examples, classes]`, rows sum to 1.
        labels: `[examples]`, indices of classes.
        bins: equal-width bins of confidence over (0, 1].

    Returns:
        A fraction in [0, 1], not a percentage.

    Source: Guo et al. 2017, arXiv:1706.04599, eq. 3.
    """
    confidence = probabilities.max(1).astype(np.float64)
    correct = probabilities.argmax(1) == labels
    which = confidence_bins(confidence, bins)
    gaps = np.bincount(which, confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def confidence_bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The index of each confidence among equal-width bins over (0, 1]."""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
