"""What a person sees of a run: lines while it trains, tables after it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from importlib.metadata import version
from typing import Any

from src import paths
from src.config.params import TRAINING, Params
from src.data.prepared import Manifest
from src.storage.json_files import write_metrics
from src.storage.tables import write_csv
from src.training.events import (
    EpochEnd,
    EpochResult,
    LogRow,
    TrainMetrics,
    ValidationMetrics,
)

HISTORY = (
    "epoch",
    *(f"train_{each.name}" for each in fields(TrainMetrics)),
    *(f"validation_{each.name}" for each in fields(ValidationMetrics)),
    "lr",
)


STEPS = (
    "step",
    "epoch",
    "train_loss",
    "train_accuracy",
    "lr",
    "gradient_norm",
    "skipped",
    "loss_scale",
)

# Validation metrics that `dvc metrics diff` does not show: metrics/details/train.json.
VALIDATION_DETAILS = ("precision", "recall", "top_k")


@dataclass
class History:
    """Every row of a training run, and the files they are written to."""

    steps: list[Sequence[Any]] = field(default_factory=list)
    epochs: list[Sequence[Any]] = field(default_factory=list)

    def add(self, event: LogRow | EpochEnd) -> None:
        """Remembers a row, not the event: an epoch's model is soon overwritten."""
        if isinstance(event, LogRow):
            self.steps.append(log_row(event))
        else:
            self.epochs.append(history_row(event.result))

    def write(self, best: EpochResult, last: EpochResult) -> str:
        """Writes history.csv, steps.csv, and the best epoch's scores as metrics.

        Args:
            best: the epoch whose weights are kept.
            last: the epoch that ended training.

        Returns:
            The SHA-256 of history.csv.
        """
        sha256 = write_csv(paths.HISTORY, HISTORY, self.epochs)
        write_csv(paths.STEPS, STEPS, self.steps)
        scores = asdict(best.validation)
        details = {name: scores.pop(name) for name in VALIDATION_DETAILS}
        headlines = {
            "train": asdict(best.train) if best.train else {},
            "validation": scores,
            "best_epoch": best.epoch,
        }
        counts = {
            "epochs": len(self.epochs),
            "steps": last.step,
            "skipped": last.skipped,
        }
        write_metrics(paths.METRICS / "train.json", headlines)
        write_metrics(paths.DETAILS / "train.json", {"validation": details, **counts})
        return sha256


def history_row(row: EpochResult) -> Sequence[object]:
    """A row of history.csv."""
    return row.epoch, *cells(row.train), *astuple(row.validation), digits(row.lr)


def log_row(row: LogRow) -> Sequence[object]:
    """A row of steps.csv; what is not finite, or was not computed, stays empty."""
    norm = row.gradient_norm if math.isfinite(row.gradient_norm) else ""
    head = row.step, row.epoch, *cells(row.train), digits(row.lr)
    return *head, norm, row.skipped, f"{row.loss_scale:g}"


def cells(means: TrainMetrics | None) -> Sequence[object]:
    """Two numbers, or nothing twice."""
    return astuple(means) if means else ("", "")


def digits(lr: float) -> str:
    """Six digits, not six decimals: a learning rate may be tiny."""
    return f"{lr:.6g}"


def training_record(
    params: Params, manifest: Manifest, epoch: int, stopped: str
) -> dict[str, Any]:
    """Where a network comes from: its data, parameters and libraries.

    Args:
        params: of the run; those that decide what training does are recorded.
        manifest: of the data.
        epoch: the epoch after which the weights were taken, from 1.
        stopped: why training ended.
    """
    return {
        "dataset": manifest.dataset,
        "dataset_version": manifest.version,
        "class_names": manifest.class_names,
        "data_sha256": {
            name: manifest.digest(name) for name in ("train", "validation")
        },
        "parameters": params.model_dump(include=set(TRAINING)),
        "epoch": epoch,
        "stopped": stopped,
        "versions": {name: version(name) for name in ("jax", "flax", "optax")},
    }
