"""Test metrics against scikit-learn and against formulas."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from src.evaluation.metrics import (
    balanced_accuracy,
    class_scores,
    confusion_matrix,
    expected_calibration_error,
    prediction_warning,
    test_metrics,
    top_k_accuracy,
    wilson_interval,
)

test_metrics.__test__ = False  # a function of src, not a test


def guesses(count, classes, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count, dtype=np.int32)
    logits = rng.normal(size=(count, classes)) + 2 * np.eye(classes)[labels]
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("seed", range(3))
def test_scores_match_scikit_learn(seed):
    log_probabilities, labels = guesses(500, 7, seed)
    predicted = log_probabilities.argmax(1)
    names = [f"class {index}" for index in range(7)]
    found = test_metrics(log_probabilities, labels, names, top_k=2)

    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, average="macro"
    )
    assert found["precision"] == pytest.approx(precision, abs=1e-12)
    assert found["recall"] == pytest.approx(recall, abs=1e-12)
    assert found["f1"] == pytest.approx(f1, abs=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(labels, predicted), abs=1e-12
    )
    assert found["accuracy"] == sklearn_metrics.accuracy_score(labels, predicted)
    probabilities = np.exp(log_probabilities.astype(np.float64))
    probabilities /= probabilities.sum(1, keepdims=True)  # float32 rows miss 1 by 1e-7
    assert found["loss"] == pytest.approx(
        sklearn_metrics.log_loss(labels, probabilities), rel=1e-6
    )
    per_class = sklearn_metrics.precision_recall_fscore_support(labels, predicted)
    for index, name in enumerate(names):
        scores = found["classes"][name]
        expected = [column[index] for column in per_class]
        assert [
            scores[key] for key in ("precision", "recall", "f1", "examples")
        ] == pytest.approx(expected, abs=1e-12)


def test_confusion_matrix_matches_scikit_learn():
    log_probabilities, labels = guesses(300, 5, seed=0)
    predicted = log_probabilities.argmax(1)
    np.testing.assert_array_equal(
        confusion_matrix(labels, predicted, 5),
        sklearn_metrics.confusion_matrix(labels, predicted),
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_class_that_never_occurs_is_excluded_from_averages_as_in_scikit_learn():
    labels = np.array([0, 0, 1, 1, 2], np.int32)
    predicted = np.array([0, 1, 1, 1, 0])
    log_probabilities = np.log(np.full((5, 4), 0.1) + 0.6 * np.eye(4)[predicted])
    found = test_metrics(log_probabilities, labels, list("abcd"), top_k=2)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, average="macro", zero_division=0
    )
    assert [found[key] for key in ("precision", "recall", "f1")] == pytest.approx(
        [precision, recall, f1]
    )


def test_class_that_is_never_predicted_scores_zero_not_nan():
    scores = class_scores(np.array([[3, 0], [2, 0]]))
    assert scores["precision"].tolist() == [0.6, 0]
    assert scores["f1"].tolist() == [0.75, 0]


@pytest.mark.parametrize(("correct", "count"), [(0, 10), (7, 10), (10, 10), (355, 359)])
def test_wilson_interval_solves_its_quadratic(correct, count):
    # Its ends solve (p - correct / count)^2 = z^2 p (1 - p) / count.
    z2 = 1.959963984540054**2
    share = correct / count
    low, high = sorted(
        np.roots([1 + z2 / count, -(2 * share + z2 / count), share**2]).real
    )
    assert wilson_interval(correct, count) == pytest.approx((low, high), abs=1e-9)


def test_calibration_error_matches_a_sum_over_bins_by_hand():
    log_probabilities, labels = guesses(400, 4, seed=1)
    probabilities = np.exp(log_probabilities.astype(np.float64))
    expected = 0.0
    for lower in np.arange(10) / 10:
        inside = [
            (row.max(), row.argmax() == label)
            for row, label in zip(probabilities, labels, strict=True)
            if lower < row.max() <= lower + 0.1
        ]
        if inside:
            confidence, correct = np.mean(inside, axis=0)
            expected += len(inside) / len(labels) * abs(confidence - correct)
    found = expected_calibration_error(probabilities, labels, bins=10)
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("k", [1, 2, 6, 7, 9])
def test_top_k_matches_scikit_learn(k):
    log_probabilities, labels = guesses(500, 7, seed=4)
    found = top_k_accuracy(log_probabilities, labels, k)
    expected = (
        sklearn_metrics.top_k_accuracy_score(
            labels, log_probabilities, k=k, labels=range(7)
        )
        if k < 7
        else 1.0
    )
    assert found == expected


def test_first_class_ranks_higher_among_equal_scores():
    assert top_k_accuracy(np.zeros((4, 4)), np.arange(4), k=1) == 0.25


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_balanced_accuracy_leaves_out_classes_without_examples_as_scikit_learn():
    labels, predicted = np.array([0, 0, 0, 2]), np.array([0, 1, 0, 0])
    expected = sklearn_metrics.balanced_accuracy_score(labels, predicted)
    found = balanced_accuracy(confusion_matrix(labels, predicted, 4))
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("actual", "predicted", "message"),
    [
        ([5, 5, 0], [9, 1, 0], ""),
        ([5, 5, 0], [3, 3, 4], ""),
        ([10, 0, 0], [10, 0, 0], ""),
        (
            [5, 4, 1],
            [0, 10, 0],
            "the model predicts b for all 10 test images. Lower lr, or train longer.",
        ),
        (
            [5, 4, 1],
            [6, 4, 0],
            "the model never predicts c (1 of 10 test images). Train longer, or lower "
            "lr; rare classes: see sampling_power.",
        ),
    ],
)
def test_classes_that_are_never_predicted_are_named(actual, predicted, message):
    counts = np.array(actual), np.array(predicted)
    assert prediction_warning(*counts, list("abc"), "test") == message


def test_a_warning_names_at_most_ten_classes():
    predicted = np.zeros(14, int)
    predicted[:2] = 7
    names = [f"c{number}" for number in range(14)]
    warning = prediction_warning(np.ones(14, int), predicted, names, "test")
    listed = ", ".join(names[2:12])
    assert f"never predicts {listed} and 2 more (12 of 14 test images)" in warning
