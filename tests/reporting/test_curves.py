"""The curves over all thresholds, checked through matplotlib's figure objects."""

import io

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from src.evaluation.decision import Decision, decide
from src.reporting.curves import (
    GRID,
    draw_one_vs_rest,
    draw_risk_coverage,
    one_vs_rest_figure,
    risk_coverage_figure,
)


def guesses(count, classes, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    shares = np.exp(rng.normal(size=(count, classes)) + 2 * np.eye(classes)[labels])
    return shares / shares.sum(1, keepdims=True), labels


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_curves_of_few_classes_are_all_drawn_with_their_areas():
    shares, labels = guesses(90, 3)
    roc, recall = one_vs_rest_figure(shares, labels, ["a", "$b$", "_c"]).axes
    drawn = lines(roc)
    assert [label.split(" ")[1] for label in drawn] == ["a", "$b$", "_c"]
    for index, (label, points) in enumerate(drawn.items()):
        rate, found, _ = sklearn_metrics.roc_curve(
            labels == index, shares[:, index], drop_intermediate=False
        )
        np.testing.assert_allclose(points, np.stack([rate, found], 1), atol=1e-12)
        area = sklearn_metrics.roc_auc_score(labels == index, shares[:, index])
        assert label.startswith(f"{area:.4f} ")
    area = sklearn_metrics.average_precision_score(labels == 0, shares[:, 0])
    assert next(iter(lines(recall))) == f"{area:.4f} a"


def test_of_many_classes_the_mean_and_the_worst_five_are_drawn():
    shares, labels = guesses(400, 12)
    names = [f"c{index}" for index in range(12)]
    roc, recall = one_vs_rest_figure(shares, labels, names).axes
    areas = [
        sklearn_metrics.average_precision_score(labels == index, shares[:, index])
        for index in range(12)
    ]
    worst = [names[index] for index in np.argsort(areas)[:5]]
    for axes in (roc, recall):
        *shown, mean = lines(axes)
        assert [label.split(" ")[1] for label in shown] == worst
        assert mean == "mean of 12 classes"
    points = lines(roc)["mean of 12 classes"]
    curves = [
        sklearn_metrics.roc_curve(
            labels == index, shares[:, index], drop_intermediate=False
        )[:2]
        for index in range(12)
    ]
    expected = [
        np.mean([recall[rate <= x].max() for rate, recall in curves]) for x in GRID
    ]
    np.testing.assert_allclose(points[:, 1], expected, atol=1e-12)


def test_class_without_test_images_is_left_out():
    shares, labels = guesses(40, 3)
    labels[labels == 2] = 0
    roc, _ = one_vs_rest_figure(shares, labels, ["a", "b", "c"]).axes
    assert [label.split(" ")[1] for label in lines(roc)] == ["a", "b"]


def test_risk_is_drawn_over_coverage_with_the_point_of_reject_below():
    shares, labels = guesses(200, 4)
    answers = decide(shares, Decision(reject_below=0.6))
    (axes,) = risk_coverage_figure(answers, labels, 0.6).axes
    curve, point = axes.lines
    assert curve.get_xydata()[-1].tolist() == pytest.approx(
        [1, (shares.argmax(1) != labels).mean()]
    )
    sure = shares.max(1) >= 0.6
    wrong = (shares.argmax(1) != labels)[sure].mean()
    assert point.get_xydata()[0].tolist() == pytest.approx([sure.mean(), wrong])
    # The point is on the curve.
    assert min(np.abs(curve.get_xydata() - point.get_xydata()[0]).max(1)) < 1e-9


@pytest.mark.parametrize("classes", [2, 11])
@pytest.mark.parametrize("count", [1, 11, 60])
def test_any_number_of_images_can_be_drawn_and_gives_the_same_bytes(classes, count):
    shares, labels = guesses(count, classes)
    names = ["$^$"] * classes
    first, second = (draw_one_vs_rest(shares, labels, names) for _ in range(2))
    assert first == second
    for reject_below in (None, 0.3, 0.999999):
        answers = decide(shares, Decision(reject_below=reject_below))
        figure = risk_coverage_figure(answers, labels, reject_below)
        figure.savefig(io.BytesIO(), format="png")
        content = draw_risk_coverage(answers, labels, reject_below)
        assert content.startswith(b"\x89PNG")
