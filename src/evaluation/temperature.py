"""Temperature scaling: one number that makes probabilities agree with frequencies.

Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
"""

import math
from typing import NamedTuple

import numpy as np

from src.storage.json_files import DECIMALS

LOWEST, HIGHEST = 0.05, 20.0
HALVINGS = 40  # of the interval of log T: leaves 5e-12


class Temperature(NamedTuple):
    """What logits are divided by, and why it may be a poor choice."""

    value: float  # in [LOWEST, HIGHEST]
    warning: str  # one sentence; "" if the loss has a minimum in between


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> Temperature:
    """The temperature T that minimizes the loss of `softmax(logits / T)`.

    The loss is convex in 1 / T, so its derivative has one root or none, and bisection
    finds it. If no logit exceeds that of the label, the loss falls for ever as T falls:
    then T is 1.

    Args:
        logits: `[examples, classes]`.
        labels: int `[examples]`.
    """
    logits = logits.astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    chosen = logits[np.arange(len(labels)), labels]
    if not chosen.any():
        return Temperature(
            1.0,
            f"calibrate: expected validation images that the network gets wrong, found "
            f"none of {len(labels)}, so no temperature fits and probabilities stay as "
            "they are. Hold out more images: raise validation_fraction.",
        )

    def slope(log_temperature: float) -> float:
        """The derivative of the loss by 1 / T; it falls as T rises."""
        powers = np.exp(logits / math.exp(log_temperature))
        means = (powers * logits).sum(1) / powers.sum(1)
        return float((means - chosen).mean())

    low, high = math.log(LOWEST), math.log(HIGHEST)
    for bound, beyond in ((high, slope(high) >= 0), (low, slope(low) <= 0)):
        if beyond:
            value = math.exp(bound)
            return Temperature(
                round(value, DECIMALS),
                f"calibrate: expected a temperature between {LOWEST:g} and "
                f"{HIGHEST:g}, found the best one beyond {value:g}, which is used. "
                "Train longer, or raise validation_fraction.",
            )
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return Temperature(round(math.exp(low), DECIMALS), "")


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities in double precision, `[examples, classes]`."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(1, keepdims=True)
    normalized: np.ndarray = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return normalized
