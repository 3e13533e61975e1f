"""ROC, precision and recall of each class against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from src.evaluation.metrics import test_metrics as all_metrics
from src.evaluation.one_vs_rest import class_areas, class_curves, mean_areas


def guesses(count, classes, seed, decimals=None):
    """Probabilities of a network that errs; few decimals make many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    shares = np.exp(rng.normal(size=(count, classes)) + np.eye(classes)[labels])
    shares /= shares.sum(1, keepdims=True)
    return (shares if decimals is None else shares.round(decimals)), labels


@pytest.mark.parametrize("decimals", [None, 1], ids=["distinct", "ties"])
@pytest.mark.parametrize("classes", [2, 5])
def test_areas_of_each_class_match_scikit_learn(classes, decimals):
    shares, labels = guesses(300, classes, seed=classes, decimals=decimals)
    for index, found in enumerate(class_areas(shares, labels)):
        truth, scores = labels == index, shares[:, index]
        assert found["roc_auc"] == pytest.approx(
            sklearn_metrics.roc_auc_score(truth, scores), abs=1e-12
        )
        assert found["average_precision"] == pytest.approx(
            sklearn_metrics.average_precision_score(truth, scores), abs=1e-12
        )


@pytest.mark.parametrize("decimals", [None, 1], ids=["distinct", "ties"])
def test_points_of_both_curves_match_scikit_learn(decimals):
    shares, labels = guesses(200, 3, seed=1, decimals=decimals)
    found = class_curves(shares[:, 0], labels == 0)
    rate, recall, _ = sklearn_metrics.roc_curve(
        labels == 0, shares[:, 0], drop_intermediate=False
    )
    np.testing.assert_allclose(found.false_positive_rate, rate, atol=1e-15)
    np.testing.assert_allclose(found.recall, recall, atol=1e-15)
    precision, _, _ = sklearn_metrics.precision_recall_curve(labels == 0, shares[:, 0])
    np.testing.assert_allclose(found.precision, precision[::-1], atol=1e-15)


def test_class_without_examples_or_without_others_has_no_curves():
    shares = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    assert class_curves(shares[:, 2], np.array([False, False])) is None
    assert class_curves(shares[:, 0], np.array([True, True])) is None
    areas = class_areas(shares, np.array([0, 1]))
    assert areas[2] == {}
    assert mean_areas(areas) == {"roc_auc": 1.0, "average_precision": 1.0}
    assert mean_areas([{}, {}]) == {}


def test_metrics_have_the_means_and_the_areas_of_each_class():
    shares, labels = guesses(300, 4, seed=2)
    labels = labels.astype(np.int32)
    found = all_metrics(np.log(shares), labels, list("abcd"), 2)
    expected = sklearn_metrics.roc_auc_score(labels, shares, multi_class="ovr")
    assert found["roc_auc"] == pytest.approx(expected, abs=1e-12)
    areas = [each["average_precision"] for each in found["classes"].values()]
    assert found["average_precision"] == pytest.approx(np.mean(areas), abs=1e-15)


def test_metrics_of_a_single_class_have_no_areas():
    found = all_metrics(
        np.log([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0]), ["a", "b"], 1
    )
    assert "roc_auc" not in found
    assert "roc_auc" not in found["classes"]["a"]
