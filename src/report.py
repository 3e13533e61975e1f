"""What a person sees of a run: lines while it trains, tables after it."""

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from src import paths
from src.config import TRAINING, Params
from src.data.prepared import Manifest
from src.events import Epoch, Means, Result, Scores, Steps
from src.files import write_csv, write_metrics
from src.processes import leads

HISTORY = (
    "epoch",
    *(f"train_{each.name}" for each in fields(Means)),
    *(f"validation_{each.name}" for each in fields(Scores)),
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


class ProgressBar:
    """A bar on a terminal; elsewhere a line per epoch."""

    def __init__(self, epochs: int, steps_per_epoch: int) -> None:
        self.epochs = epochs
        self.loss_scale = 1.0  # as the last event had it
        self.bar = tqdm(
            total=epochs * steps_per_epoch,
            unit="step",
            disable=not (sys.stderr.isatty() and leads()),
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
        """Moves the bar; says how an epoch went, and which steps went wrong.

        Of several processes, the first says it for all.
        """
        if not leads():
            return
        if isinstance(event, Steps):
            self.bar.update(event.step - self.bar.n)
            if event.skipped:
                numbers = ", ".join(map(str, event.skipped_steps))
                halved = f"; each halved the loss scale, now {event.loss_scale:g}"
                changed = halved if event.loss_scale != self.loss_scale else ""
                line = f"not finite, skipped: step {numbers}{changed}"
                self.bar.write(line, file=sys.stdout)
            self.loss_scale = event.loss_scale
            return
        result = event.result
        train = result.train or Means(math.nan, math.nan)
        line = (
            f"epoch {result.epoch:>{len(str(self.epochs))}}/{self.epochs}"
            f"  loss {train.loss:.4f}  accuracy {train.accuracy:.4f}"
            f"  validation loss {result.validation.loss:.4f}"
            f"  accuracy {result.validation.accuracy:.4f}  lr {result.lr:.2e}"
        )
        self.bar.write(line, file=sys.stdout)


@dataclass
class History:
    """Every row of a training run, and the files they are written to."""

    steps: list[Sequence[Any]] = field(default_factory=list)
    epochs: list[Sequence[Any]] = field(default_factory=list)

    def add(self, event: Steps | Epoch) -> None:
        """Remembers a row, not the event: an epoch's model is soon overwritten."""
        if isinstance(event, Steps):
            self.steps.append(steps_row(event))
        else:
            self.epochs.append(history_row(event.result))

    def write(self, best: Result, last: Result) -> str:
        """Writes history.csv, steps.csv, and the best epoch's scores as metrics.

        Args:
            best: the epoch whose weights are kept.
            last: the epoch that ended training.

        Returns:
            The SHA-256 of history.csv.
        """
        sha256 = write_csv(paths.HISTORY, HISTORY, self.epochs)
        write_csv(paths.STEPS, STEPS, self.steps)
        metrics = {
            "train": asdict(best.train) if best.train else {},
            "validation": asdict(best.validation),
            "best_epoch": best.epoch,
            "epochs": len(self.epochs),
            "steps": last.step,
            "skipped": last.skipped,
        }
        write_metrics(paths.METRICS / "train.json", metrics)
        return sha256


def history_row(row: Result) -> Sequence[object]:
    """A row of history.csv."""
    return row.epoch, *cells(row.train), *astuple(row.validation), digits(row.lr)


def steps_row(row: Steps) -> Sequence[object]:
    """A row of steps.csv; what is not finite, or was not computed, stays empty."""
    norm = row.gradient_norm if math.isfinite(row.gradient_norm) else ""
    head = row.step, row.epoch, *cells(row.train), digits(row.lr)
    return *head, norm, row.skipped, f"{row.loss_scale:g}"


def cells(means: Means | None) -> Sequence[object]:
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
