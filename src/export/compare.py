"""Judges the probabilities of an exported file by those of the network."""

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np

from src import paths
from src.config.names import FormatName
from src.errors import DataError
from src.evaluation.decision import MOST_LIKELY, Decision, decide
from src.export.formats import Format, format_module

MAX_ACCURACY_LOSS = 0.005  # of an inexact format, apart from `sampling_error`
QUANTILE = 1.645  # of the normal distribution, 95 %
ROUNDING = 1e-9  # error of the difference of two accuracies


def compare(
    module: Format,
    found: np.ndarray,
    labels: np.ndarray,
    expected: np.ndarray,
    allowed: np.ndarray,
    decision: Decision = MOST_LIKELY,
) -> dict[str, Any]:
    """Compares a file's probabilities with the network's, both `[examples, classes]`.

    `changed` counts the changed predictions. An exact format may change a prediction
    only if the network's top two classes tie within twice the allowed difference, or if
    a threshold is as close.

    Args:
        module: the format.
        found: the file's probabilities.
        labels: int32 `[examples]`.
        expected: the network's.
        allowed: of an exact format, `[examples]`, see `rounding`.
        decision: how probabilities become answers.

    Raises:
        DataError: the probabilities differ by more than the format may.
    """
    gaps = np.abs(found.astype(np.float64) - expected)
    predicted = decide(found, decision).predicted
    changed = predicted != decide(expected, decision).predicted
    metrics = {
        "accuracy": float((predicted == labels).mean()),
        "changed": int(changed.sum()),
        "largest_difference": float(gaps.max()),
        "mean_difference": float(gaps.mean()),
    }
    if module.EXACT:
        if decision.threshold is None:
            first, second = -np.sort(-expected, axis=1)[:, :2].T
            margins = first - second
        else:
            margins = np.abs(expected[:, 1] - decision.threshold)
        beyond_ties = int((changed & (margins > 2 * allowed)).sum())
        check_exact(module.FILE, gaps.max(1), allowed, beyond_ties)
    else:
        check_inexact(module.FILE, found, expected, labels, decision)
    return metrics


def check_exact(file: str, gaps: np.ndarray, allowed: np.ndarray, changed: int) -> None:
    """Raises DataError if an exact format differs by more than rounding.

    Args:
        file: its name.
        gaps: largest difference of each image.
        allowed: the largest that rounding explains.
        changed: changed predictions that are no ties.
    """
    worst = int(np.argmax(np.nan_to_num(gaps / allowed, nan=np.inf)))
    if not gaps[worst] <= allowed[worst] or changed:  # `not <=` also refuses NaN
        raise DataError(
            f"{paths.EXPORT / file}: expected the trained network's probabilities "
            f"within {allowed[worst]:.2g} (rounding), found a difference of "
            f"{gaps[worst]:.2g} and {changed} changed predictions."
        )


def check_inexact(
    file: str,
    found: np.ndarray,
    expected: np.ndarray,
    labels: np.ndarray,
    decision: Decision,
) -> None:
    """Raises DataError if an inexact format lost more accuracy than chance explains.

    Args:
        file: its name.
        found: the file's probabilities, `[examples, classes]`.
        expected: the network's.
        labels: int32 `[examples]`.
        decision: how probabilities become answers.
    """
    own, kept = (
        decide(array, decision).predicted == labels for array in (expected, found)
    )
    loss = float(own.mean() - kept.mean())
    bound = MAX_ACCURACY_LOSS + sampling_error(own, kept)
    if not loss <= bound + ROUNDING or not np.isfinite(found).all():
        raise DataError(
            f"{paths.EXPORT / file}: expected to lose at most {bound:.2%} of accuracy "
            f"({MAX_ACCURACY_LOSS:.1%}, and chance on {len(labels)} images), found "
            f"{loss:.2%}."
        )


def sampling_error(before: np.ndarray, after: np.ndarray) -> float:
    """The one-sided 95 % margin of a loss of accuracy that is measured on some images.

    The variance of a difference of two proportions of the same `n` images, of which `b`
    are right only before and `c` only after, is `(b + c - (b - c)**2 / n) / n**2`
    (Agresti 2002, "Categorical Data Analysis", section 10.1.1).

    Args:
        before: which answers are right, bool `[n]`.
        after: the same, of another network.
    """
    count = len(before)
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    variance = lost + gained - (lost - gained) ** 2 / count
    return QUANTILE * sqrt(variance) / count


def accuracy_differences(
    results: Mapping[FormatName, Mapping[str, Any]],
    expected: np.ndarray,
    labels: np.ndarray,
    decision: Decision = MOST_LIKELY,
) -> dict[FormatName, dict[str, float]]:
    """The accuracy of each format whose accuracy differs from the network's.

    Args:
        results: measurements by format.
        expected: the network's probabilities, `[examples, classes]`.
        labels: int32 `[examples]`.
        decision: how probabilities become answers.
    """
    accuracy = float((decide(expected, decision).predicted == labels).mean())
    return {
        name: {"accuracy": measured["accuracy"]}
        for name, measured in results.items()
        if measured["accuracy"] != accuracy
    }


def summary(results: Mapping[FormatName, Mapping[str, Any]], examples: int) -> str:
    """One line on all proofs: exact formats together, then each inexact format."""
    exact = [name for name in results if format_module(name).EXACT]
    parts = []
    if exact:
        worst = max(results[name]["largest_difference"] for name in exact)
        changed = sum(results[name]["changed"] for name in exact)
        parts.append(
            f"{', '.join(exact)}: max difference {worst:.1e}; {changed} predictions "
            f"changed on {examples} test images"
        )
    parts += [
        f"{name}: {results[name]['changed']} predictions changed, accuracy "
        f"{results[name]['accuracy']:.4f}"
        for name in results
        if name not in exact
    ]
    return ". ".join(parts)
