"""Statistics over runs that differ only in their seed."""

from typing import NamedTuple

import numpy as np
from scipy import stats

# Metrics of test that are summarized.
REPORTED = (
    *("accuracy", "balanced_accuracy", "loss"),
    *("precision", "recall", "f1", "top_k"),
)


class Summary(NamedTuple):
    """A metric over several seeds."""

    mean: float
    standard_deviation: float  # of single runs, with n - 1 degrees of freedom
    low: float  # lower end of the 95 % confidence interval of the mean
    high: float


def summarize(values: list[float]) -> Summary:
    """Mean, standard deviation and Student's 95 % confidence interval of the mean.

    Source: Student 1908, Biometrika 6, pp. 1-25.

    Args:
        values: two or more.
    """
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    half = quantile * deviation / len(values) ** 0.5
    return Summary(mean, deviation, mean - half, mean + half)
