"""The report of a run: one HTML page that needs nothing else.

Class names and parameters may come from strangers. The template writes them as text,
and the page's own policy lets a browser neither run a script nor load anything.
"""

import base64
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from src.config.params import Params
from src.evaluation.metrics import CALIBRATION_BINS, confusion_matrix
from src.reporting.charts import (
    Axis,
    Confusion,
    Curves,
    Point,
    confusion_cells,
    learning_curves,
    reliability,
)
from src.reporting.commit import Commit
from src.results.read import Results
from src.results.schema import ClassScores

TEMPLATE = "report_page.html"
MAX_MISTAKES = 24
MAX_MATRIX = 50  # classes whose confusion matrix can be read
MAX_CLASSES = 100  # rows of the table of classes
MAX_PAIRS = 12  # of classes that are mistaken for each other
SIDE = 96  # pixels of a mistake's picture, at most
GROUP = re.compile(r"# ---- (.+?) ----")
KEY = re.compile(r"(\w+):")
# What is measured of an exported file, in the order of the table's columns.
MEASURES = {
    "accuracy": "accuracy",
    "changed": "changed answers",
    "largest_difference": "largest difference",
    "mean_difference": "mean difference",
    "bytes": "bytes",
}


class Mistake(NamedTuple):
    """A test image with a wrong answer."""

    number: int  # in the test split, from 0
    answer: str
    truth: str
    confidence: float
    picture: str  # PNG, as an address


class ClassRow(NamedTuple):
    """A class in the table."""

    name: str
    scores: ClassScores
    low: float  # of recall's 95 % interval
    high: float


class ClassTable(NamedTuple):
    """The table of classes."""

    rows: list[ClassRow]
    hidden: int  # classes for which there is no room
    recall: Axis


class Calibration(NamedTuple):
    """The chart of confidence and accuracy."""

    across: Axis
    down: Axis
    points: list[Point]
    bins: int


def build_page(
    results: Results, params: Params, text: str, commit: Commit | str
) -> bytes:
    """The page.

    Args:
        results: of the run.
        params: of the run.
        text: of `params.yaml`, whose headings group the parameters.
        commit: that the run was made from; or why there is none.
    """
    template = environment().get_template(TEMPLATE)
    page = template.render(
        run=results,
        commit=None if isinstance(commit, str) else commit,
        no_commit=commit,
        curves={name: curves(results, name) for name in ("loss", "accuracy")},
        confusion=confusion(results),
        pairs=pairs(results),
        classes=class_table(results),
        calibration=calibration(results),
        mistakes=mistakes(results),
        wrong=int((results.predicted != results.test.labels).sum()),
        measures=measures(results),
        groups=parameter_groups(params, text),
    )
    return page.encode(errors="replace")  # half a character may stand in a name


def environment() -> Environment:
    """How templates are read: what they show is text, and a misspelt name an error."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"measure": measure, "parameter": parameter}
    return made


def curves(results: Results, metric: str) -> Curves:
    """The learning curves of a metric."""
    names = {"training": f"train_{metric}", "validation": f"validation_{metric}"}
    history = results.history
    lines = [(name, history[column]) for name, column in names.items()]
    return learning_curves(history["epoch"], lines, results.training.best_epoch)


def confusion(results: Results) -> Confusion | None:
    """The confusion matrix, unless it has too many classes to be read."""
    names = results.manifest.class_names
    if len(names) > MAX_MATRIX:
        return None
    labels = results.test.labels
    return confusion_cells(
        confusion_matrix(labels, results.predicted, len(names)), names
    )


def pairs(results: Results) -> list[tuple[str, str, int]]:
    """Which class is most often taken for which, and how often."""
    names, labels = results.manifest.class_names, results.test.labels
    wrong = results.predicted != labels
    found, counts = np.unique(
        np.stack([labels[wrong], results.predicted[wrong]]), axis=1, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:MAX_PAIRS]
    return [
        (names[found[0, each]], names[found[1, each]], int(counts[each]))
        for each in order
    ]


def class_table(results: Results) -> ClassTable:
    """The classes in their order; where there are many, by F1, the lowest first."""
    rows = []
    for name in results.manifest.class_names:
        scores = results.scores.classes[name]
        rows.append(ClassRow(name, scores, *scores.recall_interval()))
    if len(rows) > MAX_CLASSES:
        rows.sort(key=lambda row: row.scores.f1)
    lowest = min(row.low for row in rows if row.scores.examples)
    recall = Axis(lowest, 1, 4, 116)
    return ClassTable(rows[:MAX_CLASSES], len(rows[MAX_CLASSES:]), recall)


def calibration(results: Results) -> Calibration:
    """How often answers of like confidence are right."""
    across, down = Axis(0, 1, 42, 350), Axis(0, 1, 196, 12)
    correct = results.predicted == results.test.labels
    points = reliability(results.confidence, correct, CALIBRATION_BINS, across, down)
    return Calibration(across, down, points, CALIBRATION_BINS)


def mistakes(results: Results) -> list[Mistake]:
    """The wrong answers, the surest first."""
    names, labels = results.manifest.class_names, results.test.labels
    wrong = np.flatnonzero(results.predicted != labels)
    order = np.argsort(-results.confidence[wrong], kind="stable")[:MAX_MISTAKES]
    return [
        Mistake(
            int(index),
            names[results.predicted[index]],
            names[labels[index]],
            float(results.confidence[index]),
            picture(results.test.images[index]),
        )
        for index in wrong[order]
    ]


def picture(image: np.ndarray) -> str:
    """An image, uint8 `[height, width, 1 or 3]`, as the address of a small PNG."""
    drawn = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    drawn.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    drawn.save(buffer, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def measures(results: Results) -> dict[str, str]:
    """What was measured of the exported files: headings by key."""
    found = {key for measured in results.measured.values() for key in measured}
    others = {key: key.replace("_", " ") for key in sorted(found - MEASURES.keys())}
    return {key: name for key, name in MEASURES.items() if key in found} | others


def measure(measured: Mapping[str, int | float], key: str) -> str:
    """A number of the table of exported files."""
    value = measured.get(key)
    if value is None:
        return "none"
    if isinstance(value, int):
        return f"{value:,}"
    if key == "accuracy":
        return f"{value:.4f}"
    # The metrics have six decimals: of less than that there is nothing to tell.
    return (
        f"{value:.1e}" if value >= 1e-5 else f"{value:.0e}" if value else "below 1e-06"
    )


def parameter_groups(
    params: Params, text: str
) -> list[tuple[str, list[tuple[str, object, str]]]]:
    """Key, value and meaning of every parameter, under the headings of params.yaml."""
    headings, heading = {}, "All"
    for line in text.splitlines():
        if found := GROUP.match(line):
            heading = found[1]
        elif found := KEY.match(line):
            headings[found[1]] = heading
    groups: dict[str, list[tuple[str, object, str]]] = {}
    for key, value in params.model_dump().items():
        meaning = Params.model_fields[key].description or ""
        groups.setdefault(headings.get(key, "Others"), []).append((key, value, meaning))
    return list(groups.items())


def parameter(value: object) -> str:
    """A parameter's value as params.yaml might have it; nothing for null."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case tuple():
            return f"[{', '.join(map(parameter, value))}]"
    return str(value)
