"""The rows of history.csv and steps.csv, and the record of a trained model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from src import paths
from src.config.params import TRAINING, Params
from src.data.prepared import Manifest
from src.storage.json_files import metrics_bytes
from src.storage.tables import csv_bytes
from src.training.events import EpochEnd, EpochResult, LogRow, TrainMetrics
from src.training.validation import ValidationMetrics

HISTORY_COLUMNS = (
    "epoch",
    *(f"train_{each.name}" for each in fields(TrainMetrics)),
    *(f"validation_{each.name}" for each in fields(ValidationMetrics)),
    "lr",
)
STEPS_COLUMNS = (
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
VALIDATION_DETAILS = ("balanced_accuracy", "precision", "recall", "top_k")


@dataclass
class History:
    """All rows of a training run."""

    steps: list[Sequence[Any]] = field(default_factory=list)
    epochs: list[Sequence[Any]] = field(default_factory=list)

    def add(self, event: LogRow | EpochEnd) -> None:
        """Adds the row of an event. The event itself is valid only until the next."""
        if isinstance(event, LogRow):
            self.steps.append(steps_row(event))
        else:
            self.epochs.append(history_row(event.result))

    def files(
        self,
        best: EpochResult,
        last: EpochResult,
        calibration: Mapping[str, float] | None = None,
    ) -> dict[Path, bytes]:
        """history.csv, steps.csv and the metrics of the best epoch.

        Args:
            best: the epoch whose weights are saved. Its scores are those of before
                calibration.
            last: the last epoch.
            calibration: scores of validation before and after; None without it.
        """
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
        details = {"validation": details, **counts}
        if calibration:
            details["calibration"] = dict(calibration)
        return {
            paths.HISTORY: csv_bytes(HISTORY_COLUMNS, self.epochs),
            paths.STEPS: csv_bytes(STEPS_COLUMNS, self.steps),
            paths.METRICS / "train.json": metrics_bytes(headlines),
            paths.DETAILS / "train.json": metrics_bytes(details),
        }


def history_row(row: EpochResult) -> Sequence[object]:
    """A row of history.csv."""
    return row.epoch, *cells(row.train), *astuple(row.validation), format_lr(row.lr)


def steps_row(row: LogRow) -> Sequence[object]:
    """A row of steps.csv; a norm that is not finite or not computed stays empty."""
    norm = row.grad_norm if math.isfinite(row.grad_norm) else ""
    head = row.step, row.epoch, *cells(row.train), format_lr(row.lr)
    return *head, norm, row.skipped, f"{row.loss_scale:g}"


def cells(metrics: TrainMetrics | None) -> Sequence[object]:
    """Loss and accuracy, or two empty cells."""
    return astuple(metrics) if metrics else ("", "")


def format_lr(lr: float) -> str:
    """Six significant digits, not six decimals: a learning rate may be tiny."""
    return f"{lr:.6g}"


def training_record(
    params: Params, manifest: Manifest, epoch: int, stopped: str
) -> dict[str, Any]:
    """The origin of a trained model: its data, parameters, devices and libraries.

    Args:
        params: the parameters of the run; those of the train stage are recorded.
        manifest: of the data.
        epoch: the epoch of the saved weights, from 1.
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
        "devices": jax.device_count(),
        "epoch": epoch,
        "stopped": stopped,
        "versions": {name: version(name) for name in ("jax", "flax", "optax")},
    }
