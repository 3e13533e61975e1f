"""How the accuracy of answers rises if the network may decline the least sure ones."""

from typing import NamedTuple

import numpy as np


class RiskCoverage(NamedTuple):
    """Errors among the answers, by the share of images that are answered."""

    coverage: np.ndarray  # `[examples]`: 1 / n, 2 / n, ..., 1
    risk: np.ndarray  # `[examples]`: error rate of so many answers, the surest first
    area: float  # under the curve: AURC, the mean risk; 0 is best


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> RiskCoverage:
    """The risk-coverage curve.

    Among images of equal confidence every order is as good, so their errors count in
    equal parts: the curve does not depend on the order of the images.

    Source: Geifman and El-Yaniv 2017, arXiv:1705.08500; the area: Geifman, Uziel and
    El-Yaniv 2019, arXiv:1805.08206.

    Args:
        confidence: `[examples]`, of the predicted class.
        correct: bool `[examples]`.
    """
    order = np.argsort(-confidence, kind="stable")
    ends = tie_ends(confidence[order])
    answered = np.arange(1, len(order) + 1)
    errors = np.cumsum(~correct[order])[ends]
    spread = np.interp(answered, np.append(0, ends + 1), np.append(0, errors))
    risk = spread / answered
    return RiskCoverage(answered / len(order), risk, float(risk.mean()))


def tie_ends(ordered: np.ndarray) -> np.ndarray:
    """The last index of each group of equal numbers."""
    return np.flatnonzero(np.append(np.diff(ordered) != 0, True))


def answered_scores(correct: np.ndarray, unsure: np.ndarray) -> dict[str, float]:
    """Coverage, and the accuracy of the answered images if there are any.

    Args:
        correct: bool `[examples]`.
        unsure: bool `[examples]`.
    """
    scores = {"coverage": float((~unsure).mean())}
    if not unsure.all():
        scores["answered_accuracy"] = float(correct[~unsure].mean())
    return scores
