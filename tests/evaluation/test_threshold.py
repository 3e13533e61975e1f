"""The threshold of two classes against a search over all of them."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from src.evaluation.threshold import choose_threshold


def answers(count, seed, decimals=6):
    rng = np.random.default_rng(seed)
    positive = rng.random(count) < 0.3
    logits = rng.normal(size=count) + 1.5 * positive - 1
    return (1 / (1 + np.exp(-logits))).round(decimals), positive


def search(scores, positive, score):
    """The best value of a score over all scores as thresholds, and some between."""
    grid = np.unique(np.concatenate([scores, np.linspace(0, 1, 21)]))
    return max(score(positive, scores >= each) for each in grid)


@pytest.mark.parametrize("decimals", [6, 1], ids=["distinct", "ties"])
@pytest.mark.parametrize("seed", range(3))
def test_no_other_threshold_has_a_better_f1(seed, decimals):
    scores, positive = answers(60, seed, decimals)
    threshold = choose_threshold("f1", scores, positive)
    found = sklearn_metrics.f1_score(positive, scores >= threshold)
    assert found == search(scores, positive, sklearn_metrics.f1_score)


@pytest.mark.parametrize("recall", [0.5, 0.95, 1.0])
@pytest.mark.parametrize("decimals", [6, 1], ids=["distinct", "ties"])
def test_recall_is_reached_with_as_few_positives_as_possible(recall, decimals):
    scores, positive = answers(200, 3, decimals)
    threshold = choose_threshold(f"recall:{recall}", scores, positive)
    assert (scores >= threshold)[positive].mean() >= recall
    above = scores[scores >= threshold]
    fewer = scores > above.min()
    assert fewer[positive].mean() < recall


def test_threshold_lies_halfway_between_scores_of_separate_classes():
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    positive = np.array([False, False, True, True])
    for rule in ("f1", "recall:1"):
        assert choose_threshold(rule, scores, positive) == 0.5


def test_scores_that_differ_by_less_than_the_threshold_can_tell_are_all_positive():
    scores = np.array([1e-9, 2e-9, 3e-9])
    positive = np.array([True, False, True])
    for rule in ("f1", "recall:1.0"):
        assert choose_threshold(rule, scores, positive) == 0.0


def test_no_score_lies_on_the_threshold():
    scores = np.array([0.2, 0.9999996, 1.0, 1.0])
    positive = np.array([False, True, True, True])
    assert choose_threshold("f1", scores, positive) == 0.6
    assert choose_threshold("recall:0.6", scores, positive) == 0.6


def test_threshold_has_six_decimals_so_that_a_file_holds_it_exactly():
    threshold = choose_threshold("f1", *answers(500, 4, 12))
    assert threshold == round(threshold, 6)
