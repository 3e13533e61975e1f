"""All that the stages left of a run, read and checked for its report.

Each file is read by itself, and those that tell of the same thing must agree. Nothing
here imports JAX: a report takes less than a second.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src import paths
from src.data.examples import Examples, class_counts
from src.data.prepared import PREPARE_AGAIN, Manifest, load_manifest, load_split
from src.errors import DataError, shortened
from src.results.schema import (
    EvaluateMetrics,
    ExportManifest,
    ExportMetrics,
    PrepareMetrics,
    Scores,
    Trained,
    TrainMetrics,
)
from src.storage.json_files import checked, read_json, read_record
from src.storage.reading import digest, read_bytes
from src.storage.tables import read_columns

TRAIN = "Train it anew: dvc repro train"
EVALUATE = "Score it anew: dvc repro evaluate"
EXPORT = "Export it anew: dvc repro export"
MAX_LOCK = 1 << 24  # bytes
MAX_EPOCH = 1e9
CURVES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


@dataclass(frozen=True)
class Results:
    """A run, as its stages left it."""

    manifest: Manifest
    prepared: PrepareMetrics
    trained: Trained
    training: TrainMetrics
    history: dict[str, np.ndarray]  # float64 `[epochs]`, by column; NaN where empty
    scores: Scores
    test: Examples
    predicted: np.ndarray  # int64 `[examples]`, classes
    confidence: np.ndarray  # float64 `[examples]`, in [0, 1]
    measured: dict[str, dict[str, int | float]]  # by format
    files: ExportManifest
    lock_sha256: str  # of requirements.lock


def load_results() -> Results:
    """Reads the files of a run.

    Raises:
        DataError: one is missing or damaged, or two of them are not of one run.
    """
    manifest = load_manifest()
    test = load_split("test", manifest)
    trained = read_record(paths.MODEL, Trained, TRAIN)
    scores = read_metrics("test", EvaluateMetrics, EVALUATE).test
    predicted, confidence = read_predictions(manifest, test.labels)
    exported = paths.EXPORT / "manifest.json"
    results = Results(
        manifest=manifest,
        prepared=read_metrics("prepare", PrepareMetrics, PREPARE_AGAIN),
        trained=trained,
        training=read_metrics("train", TrainMetrics, TRAIN),
        history=read_history(trained.history_sha256),
        scores=scores,
        test=test,
        predicted=predicted,
        confidence=confidence,
        measured=read_metrics("export", ExportMetrics, EXPORT).export,
        files=read_record(exported, ExportManifest, EXPORT),
        lock_sha256=digest(read_bytes(paths.LOCK, "Get it from git.", MAX_LOCK)),
    )
    check_one_run(results)
    return results


def read_metrics(stage: str, kind: type[Any], repair: str) -> Any:  # noqa: ANN401 - a `kind`
    """Reads the metrics of a stage as the pydantic model `kind`.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = paths.METRICS / f"{stage}.json"
    return checked(path, read_json(path, repair), kind, repair)


def read_history(sha256: str) -> dict[str, np.ndarray]:
    """The columns of history.csv that are drawn.

    Raises:
        DataError: the file is missing, has another digest, or lacks a column.
    """
    kinds = {"epoch": float} | dict.fromkeys(CURVES, number)
    columns = read_columns(paths.HISTORY, TRAIN, kinds, sha256)
    history = {name: np.array(values) for name, values in columns.items()}
    epochs = history["epoch"]
    if not (epochs[0] >= 1 and epochs[-1] <= MAX_EPOCH and (np.diff(epochs) > 0).all()):
        raise DataError(
            f"{paths.HISTORY}: expected rising epochs from 1 on, found others. {TRAIN}"
        )
    return history


def number(cell: str) -> float:
    """A number in a table; NaN where nothing stands."""
    return float(cell or "nan")


def read_predictions(
    manifest: Manifest, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The answer and its confidence for each test image.

    Raises:
        DataError: the file is missing or damaged, or is of another test split.
    """
    classes = {name: place for place, name in enumerate(manifest.class_names)}
    kinds = {"actual": classes.__getitem__, "predicted": classes.__getitem__}
    table = read_columns(paths.PREDICTIONS, EVALUATE, {**kinds, "confidence": float})
    confidence = np.array(table["confidence"])
    if table["actual"] != labels.tolist() or not np.all(abs(confidence - 0.5) <= 0.5):
        raise DataError(
            f"{paths.PREDICTIONS}: expected the {len(labels)} test images, each with a "
            f"confidence from 0 to 1, found another table. {EVALUATE}"
        )
    return np.array(table["predicted"]), confidence


def check_one_run(results: Results) -> None:
    """Raises DataError where two files are not of one run."""
    manifest, trained, scores = results.manifest, results.trained, results.scores
    learnt = {name: manifest.digest(name) for name in trained.data_sha256}
    agree(paths.MODEL, "data_sha256", learnt, trained.data_sha256, TRAIN)
    best = results.training.best_epoch
    agree(paths.METRICS / "train.json", "best_epoch", trained.epoch, best, TRAIN)
    known = best in results.history["epoch"].tolist()
    agree(paths.METRICS / "train.json", "best_epoch in the history", True, known, TRAIN)
    right = int((results.predicted == results.test.labels).sum())
    answers, told = (right, len(results.predicted)), (scores.correct, scores.examples)
    agree(paths.METRICS / "test.json", "correct, examples", answers, told, EVALUATE)
    examples = class_counts(results.test, manifest.class_names)
    told_examples = {name: of.examples for name, of in scores.classes.items()}
    agree(paths.METRICS / "test.json", "classes", examples, told_examples, EVALUATE)
    weights = results.files.weights.sha256
    agree(paths.EXPORT / "manifest.json", "weights", trained.sha256, weights, EXPORT)


def agree(path: Path, what: str, expected: object, found: object, repair: str) -> None:
    """Raises DataError where a file tells something else than those before it."""
    if found != expected:
        raise DataError(
            f"{path}: {what}: expected {shortened(expected)} as in the other files of "
            f"the run, found {shortened(found)}. {repair}"
        )
