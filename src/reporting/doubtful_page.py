"""The page of doubtful labels: one HTML page without external resources.

It has the frame and the style sheet of the report. File and class names are untrusted:
see page.py.
"""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from src.errors import escape_unprintable
from src.reporting.page import data_uri, environment

TEMPLATE = "doubtful_page.html"
MAX_SHOWN = 100  # labels
SHOWN_SIDE = 96  # pixels of a picture on the page, as in the template
MAX_SIDE = 2 * SHOWN_SIDE  # for screens with two dots per pixel


class DoubtfulLabel(NamedTuple):
    """A training example whose given label is not the most probable one."""

    row: int  # in the training split
    file: str  # relative to data_path; empty for an array's
    given: str  # name of the class
    likely: str  # name of the most probable class
    probability: float  # of `likely`
    quality: float  # cleanlab's score of `given`, in [0, 1]; 0 is worst


class DoubtfulSummary(NamedTuple):
    """What the page tells of the whole training split."""

    dataset: str
    data_path: str
    examples: int
    folds: int
    doubtful: int  # labels that are not the most probable ones
    estimate: int  # of how many labels are wrong
    from_files: bool  # the table can be put into data_path as labels.csv
    table: str  # the path of the table


def build_doubtful_page(
    summary: DoubtfulSummary, shown: Sequence[DoubtfulLabel], images: np.ndarray
) -> bytes:
    """Renders the page.

    Args:
        summary: of the training split.
        shown: the worst labels, worst first.
        images: uint8 `[len(shown), height, width, 1 or 3]`, their images as trained.
    """
    pictures = [data_uri(small_png(image)) for image in images]
    page = (
        environment()
        .get_template(TEMPLATE)
        .render(
            summary=summary,
            entries=list(zip(shown, pictures, strict=True)),
            small=max(images.shape[1:3]) < SHOWN_SIDE,  # so that each pixel is seen
            printable=escape_unprintable,
        )
    )
    return page.encode(errors="replace")


def small_png(image: np.ndarray) -> bytes:
    """An image as PNG, with at most `MAX_SIDE` pixels a side.

    Args:
        image: uint8 `[height, width, 1 or 3]`.
    """
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
