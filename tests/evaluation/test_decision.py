"""From probabilities to answers."""

import numpy as np
import pytest

from src.evaluation.decision import MOST_LIKELY, Decision, decide

SHARES = np.array([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]], np.float32)


def test_answer_is_the_most_likely_class_and_of_equal_ones_the_first():
    found = decide(SHARES, MOST_LIKELY)
    assert found.predicted.tolist() == [0, 0, 1]
    assert found.confidence.tolist() == [0.75, 0.5, 0.875]
    assert not found.unsure.any()


@pytest.mark.parametrize(
    ("threshold", "predicted", "confidence"),
    [
        (0.25, [1, 1, 1], [0.25, 0.5, 0.875]),
        (0.25000001, [0, 1, 1], [0.75, 0.5, 0.875]),
        (0.9, [0, 0, 0], [0.75, 0.5, 0.125]),
        (0.0, [1, 1, 1], [0.25, 0.5, 0.875]),
    ],
)
def test_second_class_is_the_answer_from_the_threshold_on(
    threshold, predicted, confidence
):
    found = decide(SHARES, Decision(threshold))
    assert found.predicted.tolist() == predicted
    assert found.confidence.tolist() == confidence


def test_answers_below_a_confidence_are_unsure():
    found = decide(SHARES, Decision(reject_below=0.75))
    assert found.unsure.tolist() == [False, True, False]
    assert found.predicted.tolist() == [0, 0, 1]


def test_confidence_is_compared_in_double_precision_as_javascript_does():
    # The float32 nearest to 0.9 is below 0.9.
    shares = np.array([[0.9, 0.1]], np.float32)
    assert decide(shares, Decision(reject_below=0.9)).unsure.tolist() == [True]
