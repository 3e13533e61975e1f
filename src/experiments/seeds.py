"""The same run with other seeds: how much of a difference is luck."""

from typing import NamedTuple

import numpy as np
from scipy import stats


class Summary(NamedTuple):
    """Of one number over the seeds."""

    mean: float
    standard_deviation: float  # of one run, divided by n - 1
    low: float  # of the mean: 95 % interval
    high: float


def summarize(values: list[float]) -> Summary:
    """Mean, spread, and Student's 95 % interval of the mean.

    Source: Student 1908, Biometrika 6, pp. 1-25.

    Args:
        values: two or more.
    """
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    half = quantile * deviation / len(values) ** 0.5
    return Summary(mean, deviation, mean - half, mean + half)
