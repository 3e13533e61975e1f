"""The report of a run: one HTML page without external resources.

Class names and parameters are untrusted. The template escapes them, and the page's
content security policy blocks scripts and requests.
"""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from src.config.params import Params
from src.errors import short_path
from src.evaluation.metrics import CALIBRATION_BINS, mistakes_by_confidence
from src.results.read import Predictions, Results
from src.results.schema import ClassScores

PAGE_TEMPLATE = "report_page.html"
MAX_CLASSES = 100  # rows of the table of classes
MAX_CONFUSIONS = 12  # rows of the table of confused classes
MAX_MISTAKES = 25  # rows of the table of mistakes, as many as images in the picture
FILES_OF_PAIR = 3  # file names in a row of the table of confused classes
PATH_LETTERS = 48  # of a file's path in a table
GROUP = re.compile(r"# ---- (.+?) ----")
KEY = re.compile(r"(\w+):")
# Columns of the table of exported files; other measurements follow.
MEASUREMENTS = {
    "accuracy": "accuracy",
    "changed": "changed predictions",
    "largest_difference": "max difference",
    "mean_difference": "mean difference",
    "bytes": "bytes",
}


class ClassRow(NamedTuple):
    """A row of the table of classes."""

    name: str
    scores: ClassScores
    low: float  # recall's 95 % interval
    high: float


class ClassTable(NamedTuple):
    """The table of classes."""

    rows: list[ClassRow]
    omitted: int  # classes beyond MAX_CLASSES


class ConfusedPair(NamedTuple):
    """Test images of one class that were predicted as another."""

    actual: str
    predicted: str
    images: int
    files: list[str]  # some of the images, the most confident mistakes first


class Mistake(NamedTuple):
    """A wrongly classified test image that came from a file."""

    row: int  # in the test split
    file: str
    actual: str
    predicted: str
    confidence: float


def build_page(results: Results, params: Params, text: str) -> bytes:
    """Renders the page.

    Args:
        results: of the run.
        params: of the run.
        text: the content of `params.yaml`, whose headings group the parameters.
    """
    template = environment().get_template(PAGE_TEMPLATE)
    names = results.manifest.class_names
    page = template.render(
        run=results,
        metrics=results.metrics,
        plots={name: data_uri(png) for name, png in results.plots.items()},
        confusions=confused_pairs(results.predictions, names),
        mistakes=file_mistakes(results.predictions, names),
        classes=class_table(names, results.metrics.details.classes),
        bins=CALIBRATION_BINS,
        measurements=measurement_columns(results.measured),
        groups=parameter_groups(params, text),
    )
    return page.encode(errors="replace")  # a class name may hold half a surrogate pair


def environment() -> Environment:
    """Jinja with HTML escaping, in which an undefined name is an error."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"measurement": measurement, "parameter": parameter}
    return made


def data_uri(png: bytes) -> str:
    """A PNG file as a `data:` URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def confused_pairs(
    predictions: Predictions, class_names: list[str]
) -> list[ConfusedPair]:
    """The most frequent wrong predictions, by actual and predicted class."""
    actual, predicted, confidence, file = predictions
    wrong = mistakes_by_confidence(actual, predicted, confidence)
    pairs, which, counts = np.unique(
        np.stack([actual[wrong], predicted[wrong]]),
        axis=1,
        return_inverse=True,
        return_counts=True,
    )
    found = []
    for index in np.argsort(-counts, kind="stable")[:MAX_CONFUSIONS]:
        actual_name, predicted_name = (class_names[label] for label in pairs[:, index])
        named = [name for name in file[wrong[which == index]].tolist() if name]
        files = [short_path(name, PATH_LETTERS) for name in named[:FILES_OF_PAIR]]
        found.append(
            ConfusedPair(actual_name, predicted_name, int(counts[index]), files)
        )
    return found


def file_mistakes(predictions: Predictions, class_names: list[str]) -> list[Mistake]:
    """The most confident mistakes, if any of them came from a file."""
    actual, predicted, confidence, file = predictions
    rows = mistakes_by_confidence(actual, predicted, confidence)[:MAX_MISTAKES]
    if not any(file[rows]):
        return []
    return [
        Mistake(
            row,
            short_path(file[row], PATH_LETTERS),
            class_names[actual[row]],
            class_names[predicted[row]],
            float(confidence[row]),
        )
        for row in rows.tolist()
    ]


def class_table(
    class_names: list[str], scores: Mapping[str, ClassScores]
) -> ClassTable:
    """The classes in their order; above MAX_CLASSES, those with the lowest F1."""
    rows = [
        ClassRow(name, scores[name], *scores[name].recall_interval())
        for name in class_names
    ]
    if len(rows) > MAX_CLASSES:
        rows.sort(key=lambda row: row.scores.f1)
    return ClassTable(rows[:MAX_CLASSES], len(rows[MAX_CLASSES:]))


def measurement_columns(
    measured: Mapping[str, Mapping[str, int | float]],
) -> dict[str, str]:
    """Headings by key, for every measurement of an exported file."""
    found = {key for values in measured.values() for key in values}
    others = {key: key.replace("_", " ") for key in sorted(found - MEASUREMENTS.keys())}
    return {key: name for key, name in MEASUREMENTS.items() if key in found} | others


def measurement(values: Mapping[str, int | float], key: str) -> str:
    """Formats a measurement of an exported file."""
    value = values.get(key)
    if value is None:
        return "none"
    if isinstance(value, int):
        return f"{value:,}"
    if key == "accuracy":
        return f"{value:.4f}"
    if not value:
        return "below 1e-06"  # metrics are rounded to six decimals
    return f"{value:.1e}" if value >= 1e-5 else f"{value:.0e}"


def parameter_groups(
    params: Params, text: str
) -> list[tuple[str, list[tuple[str, object, str]]]]:
    """Key, value and description of every parameter, by heading of params.yaml."""
    headings, heading = {}, "All"
    for line in text.splitlines():
        if found := GROUP.match(line):
            heading = found[1]
        elif found := KEY.match(line):
            headings[found[1]] = heading
    groups: dict[str, list[tuple[str, object, str]]] = {}
    for key, value in params.model_dump().items():
        described = Params.model_fields[key].description or ""
        row = key, value, described
        groups.setdefault(headings.get(key, "Other"), []).append(row)
    return list(groups.items())


def parameter(value: object) -> str:
    """A parameter's value in YAML; empty for null."""
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
