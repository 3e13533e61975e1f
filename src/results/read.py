"""Reads and checks the files of a finished run for its report and its model card.

Each file is validated, then the files are compared with each other. Nothing here
imports JAX, so a report takes half a second.
"""

from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel

from src import paths
from src.errors import DataError, shortened
from src.results.schema import (
    BestEpoch,
    CountedManifest,
    EvaluateDetails,
    EvaluateMetrics,
    ExportDetails,
    ExportDigests,
    PrepareDetails,
    PrepareMetrics,
    ScoreDetails,
    Scores,
    TrainDetails,
    TrainedRecord,
)
from src.storage.json_files import checked, read_json, read_record
from src.storage.reading import digest, read_bytes
from src.storage.tables import read_columns

MAX_LOCK = 1 << 24  # bytes of requirements.lock
MAX_PLOT = 1 << 26  # bytes of a PNG file
TEST_PLOTS = (
    *("learning_curves", "confusion", "calibration"),
    *("one_vs_rest", "risk_coverage", "mistakes", "heat_maps"),
)
PNG_BEGIN, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"

MetricsFile = TypeVar("MetricsFile", bound=BaseModel)


class RunMetrics(NamedTuple):
    """The metrics of prepare, train and evaluate."""

    sizes: PrepareMetrics
    in_both: dict[str, int]  # images that two splits share, as "train_test"
    best_epoch: int
    training: TrainDetails
    scores: Scores
    details: ScoreDetails


class Predictions(NamedTuple):
    """The columns of predictions.csv."""

    actual: np.ndarray  # int64 `[examples]`, class indices
    predicted: np.ndarray  # int64 `[examples]`, class indices
    confidence: np.ndarray  # float64 `[examples]`, in [0, 1]
    file: np.ndarray  # objects of type str `[examples]`; empty for an array's image


class Results(NamedTuple):
    """A finished run."""

    manifest: CountedManifest
    trained: TrainedRecord
    metrics: RunMetrics
    predictions: Predictions
    measured: dict[str, dict[str, int | float]]  # by export format
    files: ExportDigests
    plots: dict[str, bytes]  # PNG files by name
    lock_sha256: str  # of requirements.lock


def load_results() -> Results:
    """Reads the files of a run.

    Raises:
        DataError: a file is missing or damaged, or two files are from different runs.
    """
    manifest = read_record(paths.MANIFEST, CountedManifest, recreate("prepare"))
    exported = paths.EXPORT / "manifest.json"
    results = Results(
        manifest=manifest,
        trained=read_record(paths.MODEL, TrainedRecord, recreate("train")),
        metrics=read_run_metrics(),
        predictions=read_predictions(manifest.class_names),
        measured=read_metrics("details/export", ExportDetails, "export").export,
        files=read_record(exported, ExportDigests, recreate("export")),
        plots={name: read_plot(name) for name in TEST_PLOTS},
        lock_sha256=digest(read_bytes(paths.LOCK, "Restore it from git.", MAX_LOCK)),
    )
    check_one_run(results)
    return results


def read_run_metrics() -> RunMetrics:
    """Reads the metrics of prepare, train and evaluate.

    Raises:
        DataError: a file is missing or damaged.
    """
    return RunMetrics(
        sizes=read_metrics("prepare", PrepareMetrics, "prepare"),
        in_both=read_metrics("details/prepare", PrepareDetails, "prepare").in_both,
        best_epoch=read_metrics("train", BestEpoch, "train").best_epoch,
        training=read_metrics("details/train", TrainDetails, "train"),
        scores=read_metrics("test", EvaluateMetrics, "evaluate").test,
        details=read_metrics("details/test", EvaluateDetails, "evaluate").test,
    )


def read_metrics(name: str, kind: type[MetricsFile], stage: str) -> MetricsFile:
    """Reads `metrics/NAME.json`, which `stage` writes, as the pydantic model `kind`.

    Raises:
        DataError: the file is missing or damaged.
    """
    path, repair = paths.METRICS / f"{name}.json", recreate(stage)
    return checked(path, read_json(path, repair), kind, repair)


def read_predictions(class_names: list[str]) -> Predictions:
    """Reads predictions.csv.

    Raises:
        DataError: the file is missing or damaged.
    """
    indices = {name: index for index, name in enumerate(class_names)}
    table = read_columns(
        paths.PREDICTIONS,
        recreate("evaluate"),
        {
            "actual": indices.__getitem__,
            "predicted": indices.__getitem__,
            "confidence": confidence_value,
            "file": file_name,
        },
    )
    return Predictions(
        np.array(table["actual"]),
        np.array(table["predicted"]),
        np.array(table["confidence"]),
        np.array(table["file"], object),  # of any length
    )


def file_name(cell: str | None) -> str:
    """Checks that a row has a cell for the file.

    Raises:
        ValueError: the row is too short.
    """
    if cell is None:
        raise ValueError("a row that is too short")
    return cell


def confidence_value(cell: str) -> float:
    """Parses a confidence.

    Raises:
        ValueError: it is not in [0, 1].
    """
    value = float(cell)
    if not 0 <= value <= 1:
        raise ValueError(f"confidence {cell}, not in [0, 1]")
    return value


def read_plot(name: str) -> bytes:
    """Reads a PNG file in `metrics/plots`.

    Raises:
        DataError: the file is missing, incomplete or not PNG.
    """
    path, repair = paths.PLOTS / f"{name}.png", recreate("evaluate")
    content = read_bytes(path, repair, MAX_PLOT)
    if not (content.startswith(PNG_BEGIN) and content.endswith(PNG_END)):
        raise DataError(f"{path}: expected a PNG file, found other data. {repair}")
    return content


def check_one_run(results: Results) -> None:
    """Raises DataError if two files are from different runs."""
    manifest, trained, metrics = results.manifest, results.trained, results.metrics
    digests = {name: manifest.digest(name) for name in trained.data_sha256}
    check_equal(paths.MODEL, "data_sha256", digests, trained.data_sha256, "train")
    found: object = metrics.best_epoch
    path = paths.METRICS / "train.json"
    check_equal(path, "best_epoch", trained.epoch, found, "train")

    actual, predicted, *_ = results.predictions
    names, path = manifest.class_names, paths.PREDICTIONS
    counts = np.bincount(actual, minlength=len(names)).tolist()
    per_class = dict(zip(names, counts, strict=True))
    check_equal(path, "actual", manifest.counts["test"], per_class, "evaluate")
    details, path = metrics.details, paths.DETAILS / "test.json"
    expected = int((predicted == actual).sum()), len(actual)
    found = details.correct, details.examples
    check_equal(path, "correct, examples", expected, found, "evaluate")
    found = {name: scores.examples for name, scores in details.classes.items()}
    check_equal(path, "classes", per_class, found, "evaluate")

    path, found = paths.EXPORT / "manifest.json", results.files.model.sha256
    check_equal(path, "model.sha256", trained.sha256, found, "export")


def check_equal(
    path: Path, key: str, expected: object, found: object, stage: str
) -> None:
    """Raises DataError if a value differs from the other files of the run."""
    if found != expected:
        raise DataError(
            f"{path}: {key}: expected {shortened(expected)} as in the other files of "
            f"the run, found {shortened(found)}. {recreate(stage)}"
        )


def recreate(stage: str) -> str:
    """Says how to write a stage's files again."""
    return f"Recreate it: dvc repro {stage}"
