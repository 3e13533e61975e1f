"""Plots experiments in parallel coordinates: one line each, one axis per parameter."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.experiments.sweep import Dimension, Experiment, build_dimension, varying
from src.reporting.plots import png_bytes

COLOR_MAP = "viridis"
AXIS_DISTANCE = 1.9  # inches
LABEL_DISTANCE = 0.06  # least distance of two labels, as a share of the axis


def draw_sweep(experiments: Sequence[Experiment], by: str) -> bytes:
    """`sweep_figure` as a PNG file."""
    return png_bytes(sweep_figure(experiments, by))


def sweep_figure(experiments: Sequence[Experiment], by: str) -> Figure:
    """Draws an axis per varying parameter, and one for the score on the right.

    Args:
        experiments: two or more, best first; all have the score. The first is drawn
            thick.
        by: the score's name; the score sets the line's colour.
    """
    width = 1.6 + AXIS_DISTANCE * len(varying(experiments))
    figure = Figure(figsize=(width, 3.6), layout="constrained")
    draw_experiments(figure.subplots(), experiments, by)
    return figure


def draw_experiments(axes: Axes, experiments: Sequence[Experiment], by: str) -> None:
    """Draws the lines of `sweep_figure`; arguments as there."""
    names = varying(experiments)
    scores = [each.scores[by] for each in experiments]
    dimensions = [
        build_dimension(name, [each.params.get(name) for each in experiments])
        for name in names
    ]
    dimensions.append(build_dimension(by, scores))
    heights = np.array([heights_on(dimension) for dimension in dimensions])
    colors = matplotlib.colormaps[COLOR_MAP](heights[-1])
    best = experiments[0]
    # In reverse order, so that better lines cover worse ones.
    for index, each in reversed(list(enumerate(experiments))):
        line, color = heights[:, index], colors[index]
        thick = 3.5 if each is best else 1.2
        axes.plot(line, color=color, linewidth=thick, label=each.name)
    for x, dimension in enumerate(dimensions):
        draw_axis(axes, x, dimension)
    axes.set(xlim=(-0.25, len(names) + 0.45), ylim=(-0.06, 1.06), yticks=[])
    axes.set_xticks(range(len(dimensions)), [each.name for each in dimensions])
    axes.tick_params(axis="x", length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{len(experiments)} runs; thick: {best.name}", fontsize=9)


def heights_on(dimension: Dimension) -> np.ndarray:
    """The experiments' heights on an axis, in [0, 1]; `[experiments]`."""
    positions = np.array(dimension.positions, float)
    return scale(positions, positions, dimension.log)


def scale(values: np.ndarray, positions: np.ndarray, log: bool) -> np.ndarray:
    """Scales values to [0, 1], the range of `positions`; 0.5 if that range is empty."""
    if log:
        values, positions = np.log(values), np.log(positions)
    low, high = positions.min(), positions.max()
    return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)


def draw_axis(axes: Axes, x: int, dimension: Dimension) -> None:
    """Draws a vertical line and labels its values, except labels that would overlap."""
    axes.axvline(x, color="black", linewidth=0.8, zorder=0)
    values = sorted(set(dimension.positions))
    positions = np.array(dimension.positions, float)
    heights = scale(np.array(values), positions, dimension.log)
    last_height = -1.0
    for value, height in zip(values, heights, strict=True):
        if height - last_height < LABEL_DISTANCE:
            continue
        last_height = height
        names = dimension.categories
        text = names[int(value)] if names else f"{value:.4g}"
        # A category such as "a$b$" is a name, not a formula.
        axes.annotate(
            text,
            (x, height),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            parse_math=False,
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5},
        )
