"""Progress lines and the rows of history.csv and steps.csv."""

import io
import json
from dataclasses import replace

import pytest

from src import paths
from src.training.events import (
    EpochEnd,
    EpochResult,
    LogRow,
    TrainMetrics,
)
from src.training.history import History, steps_row
from src.training.progress import ProgressBar
from src.training.validation import ValidationMetrics

STEPS = LogRow(
    1, 5, TrainMetrics(0.5, 0.75), 1.5e-7, 2.0, 0, skipped_steps=(), loss_scale=1.0
)
SCORES = ValidationMetrics(
    0.3, 0.9, 0.85, precision=0.7, recall=0.6, f1=0.65, top_k=0.95
)
RESULT = EpochResult(1, 10, TrainMetrics(0.4, 0.8), SCORES, 0.001, 2, predicted=(1, 2))
EPOCH = EpochEnd(RESULT, graphdef=None, state=None, stopped=None)
LINE = (
    "epoch  1/12  loss 0.4000  accuracy 0.8000  validation loss 0.3000  accuracy 0.9000"
    "  lr 1.00e-03\n"
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_progress_bar_appears_only_on_a_terminal(monkeypatch, capsys, stream):
    stderr = stream()
    monkeypatch.setattr("sys.stderr", stderr)
    with ProgressBar(epochs=12, steps_per_epoch=10) as progress:
        progress.show(STEPS)
        progress.show(EPOCH)
    assert ("/120 [" in stderr.getvalue()) == (stream is Terminal)
    assert capsys.readouterr().out == LINE


def test_tiny_learning_rate_is_not_rounded_away():
    history = History()
    history.add(STEPS)
    history.add(EPOCH)
    files = history.files(RESULT, RESULT)
    assert files[paths.STEPS].splitlines()[1] == b"5,1,0.5,0.75,1.5e-07,2.0,0,1"
    row = b"1,0.4,0.8,0.3,0.9,0.85,0.7,0.6,0.65,0.95,0.001"
    assert files[paths.HISTORY].splitlines()[1] == row
    assert json.loads(files[paths.METRICS / "train.json"]) == {
        "best_epoch": 1,
        "train": {"accuracy": 0.8, "loss": 0.4},
        "validation": {"accuracy": 0.9, "f1": 0.65, "loss": 0.3},
    }
    assert json.loads(files[paths.DETAILS / "train.json"]) == {
        "epochs": 1,
        "skipped": 2,
        "steps": 10,
        "validation": {
            "balanced_accuracy": 0.85,
            "precision": 0.7,
            "recall": 0.6,
            "top_k": 0.95,
        },
    }


def test_skipped_steps_and_the_halved_loss_scale_are_printed(capsys):
    wrong = replace(STEPS, skipped=2, skipped_steps=(3, 4), loss_scale=8192.0)
    with ProgressBar(epochs=1, steps_per_epoch=10) as progress:
        progress.show(replace(STEPS, loss_scale=32768.0))
        progress.show(wrong)
        progress.show(replace(wrong, skipped=1, skipped_steps=(7,)))
    assert capsys.readouterr().out == (
        "not finite, skipped: step 3, 4; each halved the loss scale, now 8192\n"
        "not finite, skipped: step 7\n"
    )


def test_values_that_are_not_finite_leave_empty_cells():
    row = steps_row(replace(STEPS, train=None, grad_norm=float("nan")))
    assert row == (5, 1, "", "", "1.5e-07", "", 0, "1")
