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


def training_metrics(epochs: Sequence[Epoch], best: Epoch) -> dict[str, Any]:
    """What `metrics/train.json` says: the best epoch's scores, and how long it took."""
    return {
        "train": asdict(best.train),
        "validation": asdict(best.validation),
        "best_epoch": best.epoch,
        "epochs": len(epochs),
        "steps": epochs[-1].step,
    }


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
            name: manifest.digests[name] for name in ("train", "validation")
        },
        "parameters": params.model_dump(include=set(TRAINING)),
        "epoch": epoch,
        "versions": {name: version(name) for name in ("jax", "flax", "optax")},
    }
