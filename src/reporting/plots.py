"""PNG plots of a run. Equal numbers give equal bytes."""

import csv
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from src.errors import DataError, short_path
from src.evaluation.metrics import (
    CALIBRATION_BINS,
    confidence_bins,
    mistakes_by_confidence,
    wilson_interval,
)
from src.storage.reading import read_bytes

DPI = 110
MAX_HISTORY = 1 << 28  # bytes: a million epochs
LOG_RATIO = 100  # a curve whose maximum / minimum exceeds this gets a log axis
MAX_VALUE = 1e100  # larger values are not drawn: matplotlib's axes overflow
MISTAKE_ROWS, MISTAKE_COLUMNS = 5, 5  # at most
FILE_LETTERS = 24  # of a line of a title, such as a file's path
NAME_WIDTH = 16  # of a class name next to the confusion matrix, in letters
LABELLED_CLASSES = 30  # with more classes, labels and counts would be too small


def draw_learning_curves(history: Path, sha256: str, best: int) -> bytes:
    """A PNG of loss and accuracy by epoch, training and validation.

    Args:
        history: history.csv, as train writes it.
        sha256: its digest, as train recorded it.
        best: the epoch whose weights were kept.

    Raises:
        DataError: `history` is missing, changed or not a history.
    """
    repair = "Recreate it: dvc repro train"
    content = read_bytes(history, repair, MAX_HISTORY, sha256)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        epochs = [int(row["epoch"]) for row in rows]
        if not epochs or epochs[0] < 1 or epochs != sorted(set(epochs)):
            raise ValueError("no rising epochs from 1")
        for axes, metric in zip(
            figure.subplots(1, 2), ("loss", "accuracy"), strict=True
        ):
            curves = {
                split: [float(row[f"{split}_{metric}"] or "nan") for row in rows]
                for split in ("train", "validation")
            }
            draw_curves(axes, epochs, curves, best)
            axes.set(xlabel="epoch", title=metric)
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{history}: expected a history, found {error}. {repair}"
        ) from None
    return png_bytes(figure)


def draw_curves(
    axes: Axes, epochs: Sequence[int], curves: dict[str, list[float]], best: int
) -> None:
    """Draws the curves of one metric, with gaps at NaN, and marks the best epoch."""
    for (name, values), style in zip(curves.items(), ("--", "-"), strict=True):
        drawn = np.where(np.abs(values) < MAX_VALUE, values, np.nan)
        # The marker shows a point between two gaps.
        axes.plot(epochs, drawn, style, marker=".", markersize=3, label=name)
    axes.axvline(best, linestyle=":", color="black", label=f"best: epoch {best}")
    known = np.concatenate(list(curves.values()))
    known = known[np.abs(known) < MAX_VALUE]
    if len(known) and known.min() > 0 and known.max() / known.min() > LOG_RATIO:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend()


def draw_lr_range(
    rates: np.ndarray,
    losses: np.ndarray,
    smoothed: np.ndarray,
    suggestion: float,
) -> bytes:
    """A PNG of the loss over the learning rate, with the suggested rate.

    Args:
        rates: `[steps]`.
        losses: `[steps]`, nats.
        smoothed: `[steps]`, nats.
        suggestion: one of the rates.
    """
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, ".", alpha=0.3, label="batch loss")
    axes.plot(rates, smoothed, label="smoothed")
    label = f"steepest descent: {suggestion:.2g}"
    axes.axvline(suggestion, linestyle=":", color="black", label=label)
    highest = 1.5 * max(float(smoothed[0]), 0.01)
    axes.set(xscale="log", xlabel="lr", ylabel="loss", ylim=(0, highest))
    axes.grid(alpha=0.3)
    axes.legend()
    return png_bytes(figure)


def draw_confusion(confusion: np.ndarray, class_names: Sequence[str]) -> bytes:
    """A PNG of the confusion matrix: a row per class, a column per prediction."""
    return png_bytes(confusion_figure(confusion, class_names))


def confusion_figure(confusion: np.ndarray, class_names: Sequence[str]) -> Figure:
    """The figure of `draw_confusion`; long names are shortened."""
    classes = len(class_names)
    side = 2.5 + 0.42 * min(classes, 40)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    # Normalised by row, so that mistakes on rare classes are visible.
    fractions = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="actual")
    if classes <= LABELLED_CLASSES:
        # parse_math: a class may be called "a$b$", which is not a formula.
        ticks, names = range(classes), [short_name(each) for each in class_names]
        axes.set_xticks(ticks, names, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(ticks, names, parse_math=False)
        for row, column in zip(*np.nonzero(confusion), strict=True):
            colour = "white" if fractions[row, column] > 0.5 else "black"
            count = str(confusion[row, column])
            axes.text(
                column, row, count, ha="center", va="center", color=colour, fontsize=8
            )
    return figure


def short_name(name: str, width: int = NAME_WIDTH) -> str:
    """A class name at most `width` letters wide, shortened in its middle.

    Many names differ at one end only, so both ends stay.
    """
    if leading(name, width) == name:
        return name
    room = width - len("...")
    end = leading(name[::-1], room // 2)[::-1]
    return f"{leading(name, room - room // 2)}...{end}"


def leading(text: str, width: int) -> str:
    """The first letters of a text that fit; Chinese letters are two wide."""
    widths = [2 if unicodedata.east_asian_width(each) in "FW" else 1 for each in text]
    return text[: int(np.searchsorted(np.cumsum(widths), width, side="right"))]


def draw_calibration(confidence: np.ndarray, correct: np.ndarray) -> bytes:
    """A PNG of accuracy over confidence: a point per bin that has test images.

    Args:
        confidence: `[examples]`, in [0, 1].
        correct: bool `[examples]`.
    """
    return png_bytes(calibration_figure(confidence, correct))


def calibration_figure(confidence: np.ndarray, correct: np.ndarray) -> Figure:
    """The figure of `draw_calibration`; error bars are 95 % intervals of accuracy."""
    figure = Figure(figsize=(4.5, 5), layout="constrained")
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], ":", color="black", label="perfect calibration")
    which = confidence_bins(confidence, CALIBRATION_BINS)
    for each in np.unique(which):
        right = correct[which == each]
        mean, accuracy = confidence[which == each].mean(), right.mean()
        low, high = wilson_interval(int(right.sum()), len(right))
        # An end of the interval may be past the accuracy by a rounding error.
        spread = [[max(accuracy - low, 0)], [max(high - accuracy, 0)]]
        axes.errorbar(mean, accuracy, spread, fmt="o", color="C0")
    axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    counts.hist(confidence, bins=CALIBRATION_BINS, range=(0, 1), log=True)
    counts.set(xlabel="confidence", ylabel="test images")
    return figure


def draw_mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    files: Sequence[str],
    predicted: np.ndarray | None = None,
) -> bytes:
    """A PNG of the wrongly classified test images, most confident first.

    Args:
        images: uint8 `[examples, height, width, 1 or 3]`.
        labels: int32 `[examples]`.
        probabilities: `[examples, classes]`.
        class_names: in the order of the classes.
        files: `[examples]`, the file of each image; empty for an array's.
        predicted: int `[examples]`; None: the most likely class of each.
    """
    figure = mistakes_figure(
        images, labels, probabilities, class_names, files, predicted
    )
    return png_bytes(figure)


def shown_mistakes(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray | None = None
) -> np.ndarray:
    """Rows of the images that `draw_mistakes` shows, the most confident first."""
    if predicted is None:
        predicted = probabilities.argmax(1)
    confidence = probabilities[np.arange(len(labels)), predicted]
    order = mistakes_by_confidence(labels, predicted, confidence)
    return order[: MISTAKE_ROWS * MISTAKE_COLUMNS]


def mistakes_figure(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    files: Sequence[str],
    predicted: np.ndarray | None = None,
) -> Figure:
    """The figure of `draw_mistakes`: at most 25 images, row by row."""
    if predicted is None:
        predicted = probabilities.argmax(1)
    wrong = int(np.count_nonzero(predicted != labels))
    shown = shown_mistakes(labels, probabilities, predicted)
    rows = max(-(-len(shown) // MISTAKE_COLUMNS), 1)
    height = 1.85 if any(files[index] for index in shown) else 1.7  # a third line
    figure = Figure(figsize=(8, 0.5 + height * rows), layout="constrained")
    grid = figure.subplots(rows, MISTAKE_COLUMNS).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, index in zip(grid, shown, strict=False):
        image = images[index]
        grey = image[:, :, 0] if image.shape[2] == 1 else image
        axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
        confidence = probabilities[index, predicted[index]]
        found, place = f" {confidence:.0%}", f" (#{index})"
        answer, truth = (
            short_name(class_names[label], FILE_LETTERS - len(rest))
            for label, rest in (
                (predicted[index], found),
                (labels[index], f"actual {place}"),
            )
        )
        title = f"{answer}{found}\nactual {truth}{place}"
        if files[index]:
            title += f"\n{short_path(files[index], FILE_LETTERS)}"
        axes.set_title(title, fontsize=8, parse_math=False)
    figure.suptitle(f"{wrong} of {len(labels)} test images wrong, by confidence")
    return figure


def png_bytes(figure: Figure) -> bytes:
    """A figure as PNG, without the library's version in the metadata."""
    buffer = io.BytesIO()
    figure.dpi = DPI
    # `figure.savefig` would draw twice, to lay out the figure before.
    canvas = FigureCanvasAgg(figure)
    canvas.print_png(  # type: ignore[no-untyped-call]
        buffer, metadata={"Software": None}
    )
    return buffer.getvalue()
