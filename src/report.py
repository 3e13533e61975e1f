"""What a person sees of a run: lines while it trains, tables after it."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from src import paths
from src.config import TRAINING, Params
from src.data.prepared import Manifest
from src.files import write_csv, write_metrics
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


class History:
    """Every row of a training run, and the files they are written to."""

    def __init__(self) -> None:
        self.steps: list[Sequence[object]] = []
        self.epochs: list[Sequence[object]] = []
        self.last_step = 0

    def add(self, event: Steps | Epoch) -> None:
        """Remembers a row, not the event: an epoch's model is soon overwritten."""
        if isinstance(event, Steps):
            self.steps.append(steps_row(event))
        else:
            self.epochs.append(history_row(event))
            self.last_step = event.step

    def write(self, best: Epoch) -> None:
        """Writes history.csv, steps.csv, and the best epoch's scores as metrics."""
        write_csv(paths.HISTORY, HISTORY, self.epochs)
        write_csv(paths.STEPS, STEPS, self.steps)
        metrics = {
            "train": asdict(best.train),
            "validation": asdict(best.validation),
            "best_epoch": best.epoch,
            "epochs": len(self.epochs),
            "steps": self.last_step,
        }
        write_metrics(paths.METRICS / "train.json", metrics)


def history_row(row: Epoch) -> Sequence[object]:
    """A row of history.csv."""
    train, validation = row.train, row.validation
    scores = train.loss, train.accuracy, validation.loss, validation.accuracy
    return row.epoch, *scores, digits(row.lr)


def steps_row(row: Steps) -> Sequence[object]:
    """A row of steps.csv."""
    scores = row.train.loss, row.train.accuracy
    return row.step, row.epoch, *scores, digits(row.lr), row.gradient_norm


def digits(lr: float) -> str:
    """Six digits, not six decimals: a learning rate may be tiny."""
    return f"{lr:.6g}"


def training_record(params: Params, manifest: Manifest, epoch: int) -> dict[str, Any]:
    """Where a network comes from: its data, parameters and libraries.

    Args:
        params: of the run; those that decide what training does are recorded.
        manifest: of the data.
        epoch: the epoch after which the weights were taken, from 1.
    """
    return {
        "dataset": manifest.dataset,
        "dataset_version": manifest.version,
        "class_names": manifest.class_names,
        "data_sha256": {
            name: manifest.sha256[name] for name in ("train", "validation")
        },
        "parameters": params.model_dump(include=set(TRAINING)),
        "epoch": epoch,
        "versions": {name: version(name) for name in ("jax", "flax", "optax")},
    }
