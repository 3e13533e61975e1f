"""Where the marks of the report's charts lie; its template draws them as SVG.

Positions are in the chart's own units, about a pixel on a phone, rounded to a tenth:
finer than can be seen, and the same on every machine.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from src.evaluation.metrics import confidence_bins, wilson_interval

MAX_POINTS = 600  # of a line: more than a chart is wide
LOGARITHMIC = 100  # the largest value over the smallest from which on an axis is so
LARGEST = 1e100  # what is beyond it has no place on an axis
MAX_LABEL = 14  # letters of a class name beside the confusion matrix


class Tick(NamedTuple):
    """A number beside an axis."""

    place: float
    label: str


@dataclass(frozen=True)
class Axis:
    """Takes numbers from `low` to `high` to places from `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool = False
    whole: bool = False  # numbers beside it are, as epochs

    def places(self, values: np.ndarray) -> np.ndarray:
        """Where the numbers lie; NaN for those that have no place on the axis."""
        low, high, values = self.low, self.high, np.asarray(values, np.float64)
        values = np.where(np.abs(values) < LARGEST, values, np.nan)
        if self.logarithmic:
            values = np.log(np.where(values > 0, values, np.nan))
            low, high = math.log(low), math.log(high)
        share = (values - low) / (high - low)
        return np.round(self.begin + share * (self.end - self.begin), 1)

    def place(self, value: float) -> float:
        """Where a number lies."""
        return float(self.places(np.array(value)))

    def ticks(self) -> list[Tick]:
        """A few round numbers within the axis."""
        numbers = (log_ticks if self.logarithmic else linear_ticks)(self.low, self.high)
        return [
            Tick(self.place(each), f"{each:g}")
            for each in numbers
            if each == int(each) or not self.whole
        ]


def linear_ticks(low: float, high: float) -> list[float]:
    """Three to six multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [float(f"{index * step:.6g}") for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, at most seven."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    every = max(math.ceil((last - first + 1) / 7), 1)
    return [float(f"1e{power}") for power in range(first, last + 1, every)]


class Line(NamedTuple):
    """A line of a chart."""

    name: str
    path: str  # as SVG has it


@dataclass(frozen=True)
class Curves:
    """Values by epoch."""

    x: Axis
    y: Axis
    lines: list[Line]
    best_epoch: int
    best: tuple[float, float | None]  # where it lies on the last line, if it does


def learning_curves(
    epochs: np.ndarray, curves: Sequence[tuple[str, np.ndarray]], best_epoch: int
) -> Curves:
    """A chart of 360 by 230 with the best epoch marked.

    Args:
        epochs: `[epochs]`, rising.
        curves: names and values `[epochs]`; the best epoch is one of the last.
        best_epoch: the epoch whose weights were kept.
    """
    low, high, logarithmic = value_range(np.concatenate([each for _, each in curves]))
    x = Axis(min(epochs[0], 1), max(epochs[-1], 2), 42, 350, whole=True)
    y = Axis(low, high, 196, 24, logarithmic)
    lines = [Line(name, path(x.places(epochs), y.places(of))) for name, of in curves]
    height = y.places(curves[-1][1][epochs == best_epoch])
    known = len(height) > 0 and bool(np.isfinite(height[0]))
    best = x.place(best_epoch), float(height[0]) if known else None
    return Curves(x, y, lines, best_epoch, best)


def value_range(values: np.ndarray) -> tuple[float, float, bool]:
    """Ends of an axis for values, and whether it should be logarithmic."""
    known = values[np.abs(values) < LARGEST]
    if len(known) == 0:
        return 0.0, 1.0, False
    low, high = float(known.min()), float(known.max())
    if low > 1 / LARGEST and high / low > LOGARITHMIC:
        return low / 1.2, high * 1.2, True
    margin = max(0.05 * (high - low), 1e-3 * abs(high), 1e-6)
    return low - margin, high + margin, False


def path(across: np.ndarray, down: np.ndarray) -> str:
    """A line through the points in SVG's words, with gaps where one is not known."""
    every = max(math.ceil(len(across) / MAX_POINTS), 1)
    words, pen = [], "M"
    for x, y in zip(across[::every], down[::every], strict=True):
        if np.isfinite(y):
            # `h0` makes a dot of a point without neighbours.
            words.append(f"{pen}{x:g} {y:g}" + ("h0" if pen == "M" else ""))
        pen = "L" if np.isfinite(y) else "M"
    return "".join(words)


class Cell(NamedTuple):
    """A class (row) that was taken for a class (column)."""

    row: int
    column: int
    images: int
    share: float  # of all of the row


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix, in cells of `size`."""

    size: float
    margin: float  # for the names
    labels: list[str]
    cells: list[Cell]  # those that are not empty
    numbered: bool  # whether the counts fit into the cells

    @property
    def side(self) -> float:
        """Of all rows."""
        return self.size * len(self.labels)


def confusion_cells(confusion: np.ndarray, class_names: Sequence[str]) -> Confusion:
    """Lays out a confusion matrix, int64 `[classes, classes]`."""
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    cells = [
        Cell(int(row), int(column), int(confusion[row, column]), shares[row, column])
        for row, column in zip(*np.nonzero(confusion), strict=True)
    ]
    labels = [
        name if len(name) <= MAX_LABEL else f"{name[: MAX_LABEL - 1]}…"
        for name in class_names
    ]
    size = 30 if len(labels) <= 12 else 22 if len(labels) <= 20 else 12
    letter = 6.2 if size > 12 else 5.2
    margin = 22 + letter * max(map(len, labels))
    return Confusion(size, round(margin, 1), labels, cells, size > 12)


class Point(NamedTuple):
    """The answers of one bin of confidence."""

    across: float  # at their mean confidence
    down: float  # at their accuracy
    low: float  # ends of its 95 % interval
    high: float
    images: int
    said: float
    right: float


def reliability(
    confidence: np.ndarray, correct: np.ndarray, bins: int, across: Axis, down: Axis
) -> list[Point]:
    """How often answers of like confidence are right: a point for each bin of some.

    Args:
        confidence: `[examples]`, in [0, 1].
        correct: bool `[examples]`.
        bins: equal-width bins of confidence over (0, 1].
        across: of confidence.
        down: of accuracy.
    """
    which = confidence_bins(confidence, bins)
    points = []
    for each in np.unique(which):
        said, right = float(confidence[which == each].mean()), correct[which == each]
        low, high = wilson_interval(int(right.sum()), len(right))
        share = float(right.mean())
        ends = down.place(low), down.place(high)
        here = across.place(said), down.place(share)
        points.append(Point(*here, *ends, len(right), said, share))
    return points
