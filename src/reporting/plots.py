"""PNG pictures of a run; the same numbers give the same bytes."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from src.errors import DataError
from src.storage.reading import read_bytes

DPI = 110
MAX_HISTORY = 1 << 28  # bytes: a million epochs
ROWS, COLUMNS = 5, 5  # of mistakes, at most
LABELLED_CLASSES = 30  # beyond that, numbers in the cells could not be read


def draw_learning_curves(history: Path, sha256: str) -> bytes:
    """Loss and accuracy by epoch, training against validation.

    Args:
        history: history.csv, as train writes it.
        sha256: its digest, as train recorded it.

    Raises:
        DataError: `history` is missing, changed, or lacks a column.
    """
    repair = "Make it anew: dvc repro train"
    content = read_bytes(history, repair, MAX_HISTORY, sha256)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        epochs = [int(row["epoch"]) for row in rows]
        if not epochs:
            raise ValueError("no rows")
        for axes, metric in zip(
            figure.subplots(1, 2), ("loss", "accuracy"), strict=True
        ):
            for split, style in (("train", "--"), ("validation", "-")):
                values = [float(row[f"{split}_{metric}"] or "nan") for row in rows]
                axes.plot(epochs, values, style, label=split)
            axes.set(xlabel="epoch", title=metric)
            axes.grid(alpha=0.3)
            axes.legend()
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{history}: expected a history, found {error}. {repair}"
        ) from None
    return png_bytes(figure)


def draw_lr_range(
    rates: np.ndarray,
    losses: np.ndarray,
    smoothed: np.ndarray,
    suggestion: float,
) -> bytes:
    """The loss over the learning rate, with the rate that the test suggests.

    Args:
        rates: `[steps]`.
        losses: `[steps]`, nats.
        smoothed: `[steps]`, nats.
        suggestion: one of the rates.
    """
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, ".", alpha=0.3, label="loss of the batch")
    axes.plot(rates, smoothed, label="smoothed")
    label = f"falls fastest: {suggestion:.2g}"
    axes.axvline(suggestion, linestyle=":", color="black", label=label)
    highest = 1.5 * max(float(smoothed[0]), 0.01)
    axes.set(xscale="log", xlabel="lr", ylabel="loss", ylim=(0, highest))
    axes.grid(alpha=0.3)
    axes.legend()
    return png_bytes(figure)


def draw_confusion(confusion: np.ndarray, class_names: Sequence[str]) -> bytes:
    """The confusion matrix: rows are classes, columns what they were taken for."""
    classes = len(class_names)
    side = 2.5 + 0.42 * min(classes, 40)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    # Each row against its own size: a rare class shows its mistakes too.
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="actual")
    if classes <= LABELLED_CLASSES:
        # A class may be called "a$b$": a name, not a formula.
        places = range(classes)
        axes.set_xticks(places, class_names, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(places, class_names, parse_math=False)
        for row, column in zip(*np.nonzero(confusion), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            count = str(confusion[row, column])
            axes.text(
                column, row, count, ha="center", va="center", color=colour, fontsize=8
            )
    return png_bytes(figure)


def draw_mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
) -> bytes:
    """The test images on which the model was most sure and wrong, worst first."""
    return png_bytes(mistakes_figure(images, labels, probabilities, class_names))


def mistakes_figure(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
) -> Figure:
    """The figure of `draw_mistakes`: at most 25 of them, row by row."""
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    order = np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")
    rows = min(max(-(-len(wrong) // COLUMNS), 1), ROWS)
    figure = Figure(figsize=(8, 0.5 + 1.7 * rows), layout="constrained")
    places = figure.subplots(rows, COLUMNS).ravel()
    for axes in places:
        axes.axis("off")
    for axes, index in zip(places, wrong[order], strict=False):
        image = images[index]
        grey = image[:, :, 0] if image.shape[2] == 1 else image
        axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
        share = probabilities[index, predicted[index]]
        answer, truth = class_names[predicted[index]], class_names[labels[index]]
        title = f"{answer} {share:.0%}\nis {truth}"
        axes.set_title(title, fontsize=8, parse_math=False)
    figure.suptitle(
        f"{len(wrong)} of {len(labels)} test images wrong, the surest first"
    )
    return figure


def png_bytes(figure: Figure) -> bytes:
    """A figure as PNG, without the name and version of what drew it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
