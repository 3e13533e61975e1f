"""The risk-coverage curve against its definition."""

from itertools import permutations

import numpy as np
import pytest

from src.evaluation.risk_coverage import answered_scores, risk_coverage


def test_curve_is_the_error_rate_of_the_surest_answers():
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(60), rng.random(60) < 0.7
    found = risk_coverage(confidence, correct)
    for count in range(1, 61):
        surest = sorted(range(60), key=lambda row: -confidence[row])[:count]
        assert found.risk[count - 1] == pytest.approx(1 - correct[surest].mean())
        assert found.coverage[count - 1] == count / 60
    assert found.area == pytest.approx(found.risk.mean())


def test_equal_confidence_gives_the_mean_over_all_orders():
    confidence = np.array([0.9, 0.9, 0.9, 0.5, 0.5])
    correct = np.array([True, False, True, False, True])
    risks = []
    for first in permutations(range(3)):
        for last in permutations(range(3, 5)):
            errors = np.cumsum(~correct[[*first, *last]])
            risks.append(errors / np.arange(1, 6))
    found = risk_coverage(confidence, correct)
    np.testing.assert_allclose(found.risk, np.mean(risks, axis=0), atol=1e-12)


def test_curve_does_not_depend_on_the_order_of_the_images():
    rng = np.random.default_rng(1)
    confidence, correct = rng.random(50).round(1), rng.random(50) < 0.6
    order = rng.permutation(50)
    first, second = (
        risk_coverage(confidence, correct),
        risk_coverage(confidence[order], correct[order]),
    )
    np.testing.assert_array_equal(first.risk, second.risk)


@pytest.mark.parametrize(("right", "area"), [(True, 0.0), (False, 1.0)])
def test_area_where_all_or_none_is_correct(right, area):
    assert risk_coverage(np.linspace(0, 1, 7), np.full(7, right)).area == area


def test_scores_of_the_answered_images():
    correct = np.array([True, False, True, True])
    unsure = np.array([False, True, False, False])
    found = answered_scores(correct, unsure)
    assert found == {"coverage": 0.75, "answered_accuracy": 1.0}
    assert answered_scores(correct, np.full(4, True)) == {"coverage": 0.0}
