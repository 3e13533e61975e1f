"""The threshold of two classes, chosen on validation by a rule that the user names."""

import numpy as np

from src.storage.json_files import DECIMALS

RECALL = "recall:"


def choose_threshold(rule: str, scores: np.ndarray, positive: np.ndarray) -> float:
    """The highest threshold that fits the rule best.

    `f1` maximizes F1 of the positive class; `recall:0.95` reaches at least this recall,
    with as few false positives as possible. Candidates lie halfway between neighbouring
    scores, so that rounding errors of other computations change no answer. Neighbours
    that six decimals do not tell apart have none between them.

    Args:
        rule: "f1", or "recall:" and a number in (0, 1].
        scores: float64 `[examples]`, the probability of the positive class.
        positive: bool `[examples]`; True at least once.

    Returns:
        A number in [0, 1); scores from it on are positive.
    """
    order = np.sort(scores)
    lower, upper = order[:-1], order[1:]
    middles = np.round((lower + upper) / 2, DECIMALS)
    between = middles[(lower < middles) & (middles < upper)]
    candidates = np.unique(np.append(0.0, between))  # 0: all are positive
    predicted = len(scores) - np.searchsorted(order, candidates)
    positives = np.sort(scores[positive])
    true = len(positives) - np.searchsorted(positives, candidates)
    if rule == "f1":
        f1 = 2 * true / (predicted + len(positives))
        return float(candidates[np.flatnonzero(f1 == f1.max())[-1]])
    wanted = float(rule.removeprefix(RECALL))
    return float(candidates[np.flatnonzero(true / len(positives) >= wanted)[-1]])
