"""What a person sees while training, on a terminal and elsewhere."""

import io
import json

import pytest

from src import paths
from src.loop import Epoch, Means, Steps
from src.report import History, Progress

STEPS = Steps(1, 5, Means(0.5, 0.75), lr=1.5e-7, gradient_norm=2.0)
EPOCH = Epoch(1, 10, Means(0.4, 0.8), Means(0.3, 0.9), lr=0.001, model=None)
LINE = (
    "epoch  1/12  loss 0.4000  accuracy 0.8000  validation loss 0.3000  accuracy 0.9000"
    "  lr 1.00e-03\n"
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_bar_is_drawn_on_a_terminal_alone(monkeypatch, capsys, stream):
    stderr = stream()
    monkeypatch.setattr("sys.stderr", stderr)
    with Progress(epochs=12, steps_per_epoch=10) as progress:
        progress.show(STEPS)
        progress.show(EPOCH)
    assert ("/120 [" in stderr.getvalue()) == (stream is Terminal)
    assert capsys.readouterr().out == LINE


def test_tiny_learning_rate_is_not_rounded_away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    history = History()
    history.add(STEPS)
    history.add(EPOCH)
    history.write(EPOCH)
    assert paths.STEPS.read_text().splitlines()[1] == "5,1,0.5,0.75,1.5e-07,2.0"
    assert paths.HISTORY.read_text().splitlines()[1] == "1,0.4,0.8,0.3,0.9,0.001"
    assert json.loads((paths.METRICS / "train.json").read_text()) == {
        "best_epoch": 1,
        "epochs": 1,
        "steps": 10,
        "train": {"accuracy": 0.8, "loss": 0.4},
        "validation": {"accuracy": 0.9, "loss": 0.3},
    }
