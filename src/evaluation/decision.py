"""From probabilities to answers: a class, and whether the network is unsure.

`run.py` contains this module, so that shipped files answer as evaluate does.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Decision(NamedTuple):
    """How probabilities become answers."""

    # Of two classes, the second one is the answer from this probability on; None: the
    # most likely class is.
    threshold: float | None = None
    reject_below: float | None = None  # answers of less confidence are unsure

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Decision":
        """The decision of an export; an older one has the most likely class."""
        return cls(manifest.get("threshold"), manifest.get("reject_below"))


MOST_LIKELY = Decision()


class Answers(NamedTuple):
    """The answers for some images, `[n]` each."""

    predicted: np.ndarray  # int, indices of classes
    confidence: np.ndarray  # float64, the probability of the predicted class
    unsure: np.ndarray  # bool


def decide(probabilities: np.ndarray, decision: Decision) -> Answers:
    """The answers for probabilities `[n, classes]`."""
    shares = probabilities.astype(np.float64)  # as JSON's numbers are
    if decision.threshold is None:
        predicted = shares.argmax(1)
    else:
        predicted = (shares[:, 1] >= decision.threshold).astype(np.int64)
    confidence = shares[np.arange(len(shares)), predicted]
    return Answers(predicted, confidence, confidence < (decision.reject_below or 0.0))
