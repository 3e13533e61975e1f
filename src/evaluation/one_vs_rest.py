"""ROC and precision-recall curves of one class versus the rest."""

from typing import NamedTuple

import numpy as np

from src.evaluation.risk_coverage import tie_ends


class Curves(NamedTuple):
    """Both curves of a class: a point for each distinct score, the highest first."""

    false_positive_rate: np.ndarray  # `[points]`, from 0 to 1
    recall: np.ndarray  # `[points]`, from 0 to 1; also the true positive rate
    precision: np.ndarray  # `[points]`; 1 at recall 0
    roc_auc: float  # area under ROC by trapezoids
    average_precision: float  # area under the steps of precision over recall


def class_curves(scores: np.ndarray, positive: np.ndarray) -> Curves | None:
    """The curves of one class; None without images of it, or of the others.

    Source: Fawcett 2006, Pattern Recognition Letters 27, pp. 861-874. Average precision
    is not interpolated (Davis and Goadrich 2006, ICML).

    Args:
        scores: `[examples]`, the probability of the class.
        positive: bool `[examples]`, whether an example is of the class.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    order = np.argsort(-scores, kind="stable")
    ends = tie_ends(scores[order])
    true = np.cumsum(positive[order])[ends]
    recall = np.append(0, true / positives)
    precision = np.append(1, true / (ends + 1))
    rate = np.append(0, (ends + 1 - true) / negatives)
    return Curves(
        false_positive_rate=rate,
        recall=recall,
        precision=precision,
        roc_auc=float(np.trapezoid(recall, rate)),
        average_precision=float(np.diff(recall) @ precision[1:]),
    )


def class_areas(
    probabilities: np.ndarray, labels: np.ndarray
) -> list[dict[str, float]]:
    """The areas of each class by name; none for a class without curves.

    Args:
        probabilities: `[examples, classes]`.
        labels: int `[examples]`.
    """
    found = (
        class_curves(scores, labels == index)
        for index, scores in enumerate(probabilities.T)
    )
    return [
        {"roc_auc": of.roc_auc, "average_precision": of.average_precision} if of else {}
        for of in found
    ]


def mean_areas(areas: list[dict[str, float]]) -> dict[str, float]:
    """Macro averages over the classes that have curves; empty if none has."""
    known = [each for each in areas if each]
    return {
        name: sum(each[name] for each in known) / len(known)
        for name in ("roc_auc", "average_precision")
        if known
    }
