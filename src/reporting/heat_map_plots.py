"""PNG pictures of heat maps over the images that they explain."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.reporting.plots import (
    FILE_LETTERS,
    MISTAKE_COLUMNS,
    png_bytes,
    short_name,
)

HEAT = (0.93, 0.18, 0.0)  # red, green, blue: stands out on black, grey and white
OPACITY = 0.7  # of the hottest place
# Pixels are drawn as greys from 28 to 78 %, so that the heat shows on black and white.
DARKEST, BRIGHTEST = -143, 367
# Red, green and blue in grey: ITU-R BT.601, as Pillow has it.
LUMA = (0.299, 0.587, 0.114)


class Explained(NamedTuple):
    """An image, its heat map, and the answer that the map explains."""

    image: np.ndarray  # uint8 [height, width, 1 or 3]
    heat: np.ndarray  # [rows, columns], in [0, 1]
    answer: str  # a class name
    confidence: float  # in [0, 1]


def draw_heat_maps(shown: Sequence[Explained], rows: Sequence[int]) -> bytes:
    """A PNG of images under their heat maps, row by row.

    Args:
        shown: at most as many as `draw_mistakes` shows.
        rows: of each image, in the test split.
    """
    return png_bytes(heat_maps_figure(shown, rows))


def heat_maps_figure(shown: Sequence[Explained], rows: Sequence[int]) -> Figure:
    """The figure of `draw_heat_maps`."""
    lines = max(-(-len(shown) // MISTAKE_COLUMNS), 1)
    figure = Figure(figsize=(8, 0.5 + 1.7 * lines), layout="constrained")
    grid = figure.subplots(lines, MISTAKE_COLUMNS).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, each, row in zip(grid, shown, rows, strict=False):
        draw_heat(axes, each)
        found = f" {each.confidence:.0%}"
        title = f"{short_name(each.answer, FILE_LETTERS - len(found))}{found}\n(#{row})"
        axes.set_title(title, fontsize=8, parse_math=False)
    figure.suptitle("What the wrong answers depended on")
    return figure


def draw_explanation(explained: Explained) -> bytes:
    """A PNG of one image as the network sees it, and of its heat map over it."""
    return png_bytes(explanation_figure(explained))


def explanation_figure(explained: Explained) -> Figure:
    """The figure of `draw_explanation`."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.axis("off")
    image = explained.image
    pixels = image[:, :, 0] if image.shape[2] == 1 else image
    left.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    left.set_title("what the network saw", fontsize=9)
    draw_heat(right, explained)
    right.set_title("what the answer depended on", fontsize=9)
    answer = f"{short_name(explained.answer, 40)} {explained.confidence:.1%}"
    figure.suptitle(answer, parse_math=False)
    return figure


def draw_heat(axes: Axes, explained: Explained) -> None:
    """Draws an image in grey, with red over the places that the answer depended on."""
    height, width, channels = explained.image.shape
    weights = LUMA if channels == 3 else (1,)
    grey = explained.image @ np.array(weights)
    axes.imshow(grey, cmap="gray", vmin=DARKEST, vmax=BRIGHTEST)
    colours = np.empty((*explained.heat.shape, 4))
    colours[:, :, :3] = HEAT
    colours[:, :, 3] = OPACITY * explained.heat
    whole = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(colours, extent=whole, interpolation="bilinear")
