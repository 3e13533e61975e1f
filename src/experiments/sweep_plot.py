"""Experiments in parallel coordinates: a line for each, an axis for a parameter."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.experiments.sweep import Axis, Experiment, axis, varying
from src.reporting.plots import png_bytes

COLOURS = "viridis"
INCHES = 1.9  # between two axes


def draw_sweep(experiments: Sequence[Experiment], by: str) -> bytes:
    """`sweep_figure` as a PNG file."""
    return png_bytes(sweep_figure(experiments, by))


def sweep_figure(experiments: Sequence[Experiment], by: str) -> Figure:
    """An axis for each parameter that varies, the last one for the score.

    Args:
        experiments: two or more that have the score, the best first: it is drawn
            thick.
        by: the score's name; its value colours the line.
    """
    names = varying(experiments)
    scores = [each.scores[by] for each in experiments]
    columns = [
        axis(name, [each.params.get(name) for each in experiments]) for name in names
    ]
    columns.append(axis(by, scores))
    heights = np.array([heights_on(column) for column in columns])
    figure = Figure(figsize=(1.6 + INCHES * len(names), 3.6), layout="constrained")
    axes = figure.subplots()
    map_of_colours = matplotlib.colormaps[COLOURS]
    best = experiments[0]
    for each, line, share in reversed(
        list(zip(experiments, heights.T, heights[-1], strict=True))
    ):
        width = 3.5 if each is best else 1.2
        axes.plot(line, color=map_of_colours(share), linewidth=width, label=each.name)
    for place, column in enumerate(columns):
        draw_axis(axes, place, column)
    axes.set(xlim=(-0.25, len(names) + 0.45), ylim=(-0.06, 1.06), yticks=[])
    axes.set_xticks(range(len(columns)), [column.name for column in columns])
    axes.tick_params(axis="x", length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{len(experiments)} experiments; thick: {best.name}", fontsize=9)
    return figure


def heights_on(column: Axis) -> np.ndarray:
    """Where the experiments' values lie on an axis from 0 to 1; `[experiments]`."""
    places = np.array(column.places, float)
    return scaled(places, places, column.log)


def scaled(values: np.ndarray, places: np.ndarray, log: bool) -> np.ndarray:
    """Values on an axis whose ends are the least and the largest of `places`."""
    if log:
        values, places = np.log(values), np.log(places)
    low, high = places.min(), places.max()
    return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)


def draw_axis(axes: Axes, place: int, column: Axis) -> None:
    """A vertical line with the values that occur on it, where they do not overlap."""
    axes.axvline(place, color="black", linewidth=0.8, zorder=0)
    values = sorted(set(column.places))
    heights = scaled(np.array(values), np.array(column.places, float), column.log)
    free = -1.0
    for value, height in zip(values, heights, strict=True):
        if height - free < 0.06:
            continue
        free = height
        text = column.words[int(value)] if column.words else f"{value:.4g}"
        # A class may be called "a$b$": a name, not a formula.
        axes.annotate(
            text,
            (place, height),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            parse_math=False,
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5},
        )
