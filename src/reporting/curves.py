"""PNG plots of how far probabilities can be believed: curves over all thresholds."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.evaluation.decision import Answers
from src.evaluation.one_vs_rest import Curves, class_curves
from src.evaluation.risk_coverage import answered_scores, risk_coverage
from src.reporting.plots import png_bytes, short_name

MAX_CURVES = 10  # classes; of more, the mean and the worst ones are drawn
WORST = 5
GRID = np.linspace(0, 1, 201)  # where curves are averaged


def draw_risk_coverage(
    answers: Answers, labels: np.ndarray, reject_below: float | None
) -> bytes:
    """A PNG of the error rate of the surest answers by how many there are."""
    return png_bytes(risk_coverage_figure(answers, labels, reject_below))


def risk_coverage_figure(
    answers: Answers, labels: np.ndarray, reject_below: float | None
) -> Figure:
    """The figure of `draw_risk_coverage`; `reject_below` is a point."""
    figure = Figure(figsize=(4.5, 3.6), layout="constrained")
    axes = figure.subplots()
    correct = answers.predicted == labels
    curve = risk_coverage(answers.confidence, correct)
    axes.plot(curve.coverage, curve.risk, label=f"area {curve.area:.4f}")
    if reject_below is not None and not answers.unsure.all():
        scores = answered_scores(correct, answers.unsure)
        point = scores["coverage"], 1 - scores["answered_accuracy"]
        axes.plot(*point, "o", label=f"confidence from {reject_below:g} on")
    axes.set(xlabel="answered images", ylabel="error rate", xlim=(0, 1.02))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    return figure


def draw_one_vs_rest(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> bytes:
    """A PNG of ROC and of precision over recall, one class versus the rest.

    Args:
        probabilities: `[examples, classes]`.
        labels: int `[examples]`.
        class_names: in the order of the classes.
    """
    return png_bytes(one_vs_rest_figure(probabilities, labels, class_names))


def one_vs_rest_figure(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> Figure:
    """The figure of `draw_one_vs_rest`; a class without curves is left out."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    roc, recall = figure.subplots(1, 2)
    drawn: list[tuple[str, Curves]] = []
    mean_roc, mean_precision, known = np.zeros_like(GRID), np.zeros_like(GRID), 0
    for index, name in enumerate(class_names):
        found = class_curves(probabilities[:, index], labels == index)
        if found is None:
            continue
        known += 1
        mean_roc += roc_at(found)
        mean_precision += precision_at(found)
        drawn.append((name, found))
        if len(class_names) > MAX_CURVES:
            drawn.sort(key=lambda each: each[1].average_precision)
            del drawn[WORST:]
    for name, found in drawn:
        label = short_name(name)
        rates = found.false_positive_rate, found.recall
        roc.plot(*rates, label=f"{found.roc_auc:.4f} {label}")
        # Precision holds from one recall to the next, as its area counts it.
        steps = {"drawstyle": "steps-pre"}
        area = f"{found.average_precision:.4f} {label}"
        recall.plot(found.recall, found.precision, label=area, **steps)
    if len(class_names) > MAX_CURVES and known:
        mean = f"mean of {known} classes"
        roc.plot(GRID, mean_roc / known, color="black", label=mean)
        recall.plot(GRID, mean_precision / known, color="black", label=mean)
    roc.set(xlabel="false positive rate", ylabel="recall", title="ROC")
    recall.set(xlabel="recall", ylabel="precision", title="precision and recall")
    finish(roc, "lower right")
    finish(recall, "lower left")
    return figure


def roc_at(curves: Curves) -> np.ndarray:
    """The recall at each false positive rate of `GRID`."""
    places = np.searchsorted(curves.false_positive_rate, GRID, side="right") - 1
    return curves.recall[places]


def precision_at(curves: Curves) -> np.ndarray:
    """The precision at each recall of `GRID`."""
    return curves.precision[np.searchsorted(curves.recall, GRID)]


def finish(axes: Axes, corner: Literal["lower left", "lower right"]) -> None:
    """The frame of a plot of rates; in the corner the legend with the areas."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    if axes.lines:
        legend = axes.legend(loc=corner, fontsize=8, title="area, class")
        for text in legend.get_texts():  # a class may be called "a$b$"
            text.set_parse_math(False)
