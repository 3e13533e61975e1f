"""What a person sees of a run: lines while it trains, tables after it."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from src import paths
from src.files import write_csv
from src.loop import Epoch, Steps

HISTORY = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "lr",
)
STEPS = ("step", "epoch", "train_loss", "train_accuracy", "lr", "gradient_norm")
PREDICTIONS = ("index", "actual", "predicted", "confidence")


class Progress:
    """A bar on a terminal; elsewhere a line per epoch."""

    def __init__(self, epochs: int, steps_per_epoch: int) -> None:
        self.epochs = epochs
        self.bar = tqdm(
            total=epochs * steps_per_epoch,
            unit="step",
            disable=not sys.stderr.isatty(),
            leave=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.close()

    def show(self, event: Steps | Epoch) -> None:
        """Moves the bar; says how an epoch went."""
        if isinstance(event, Steps):
            self.bar.update(event.step - self.bar.n)
            return
        line = (
            f"epoch {event.epoch:>{len(str(self.epochs))}}/{self.epochs}"
            f"  loss {event.train.loss:.4f}  accuracy {event.train.accuracy:.4f}"
            f"  validation loss {event.validation.loss:.4f}"
            f"  accuracy {event.validation.accuracy:.4f}  lr {event.lr:.2e}"
        )
        self.bar.write(line, file=sys.stdout)


def write_history(epochs: Sequence[Epoch]) -> None:
    """Writes history.csv, a row per epoch."""
    rows = [
        (
            event.epoch,
            event.train.loss,
            event.train.accuracy,
            event.validation.loss,
            event.validation.accuracy,
            f"{event.lr:.6g}",  # digits, not decimals: it may be tiny
        )
        for event in epochs
    ]
    write_csv(paths.HISTORY, HISTORY, rows)


def write_steps(steps: Sequence[Steps]) -> None:
    """Writes steps.csv, a row every `log_every` steps."""
    rows = [
        (
            event.step,
            event.epoch,
            event.train.loss,
            event.train.accuracy,
            f"{event.lr:.6g}",  # digits, not decimals: it may be tiny
            event.gradient_norm,
        )
        for event in steps
    ]
    write_csv(paths.STEPS, STEPS, rows)


def write_predictions(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> None:
    """Writes predictions.csv, a row per test image, classes by name."""
    predicted = probabilities.argmax(1)
    rows = [
        (index, class_names[label], class_names[answer], float(row[answer]))
        for index, (label, answer, row) in enumerate(
            zip(labels, predicted, probabilities, strict=True)
        )
    ]
    write_csv(paths.PREDICTIONS, PREDICTIONS, rows)


def training_metrics(epochs: Sequence[Epoch], best: Epoch) -> dict[str, Any]:
    """What `metrics/train.json` says: the best epoch's scores, and how long it took."""
    return {
        "train": asdict(best.train),
        "validation": asdict(best.validation),
        "best_epoch": best.epoch,
        "epochs": len(epochs),
        "steps": epochs[-1].step,
    }
