"""The pictures: what is drawn, looked up in matplotlib's own figure."""

import io

import matplotlib.image
import numpy as np
import pytest

from src.errors import DataError
from src.reporting.plots import draw_confusion, draw_learning_curves, mistakes_figure
from src.storage.reading import digest


def answers(labels, predicted, confidence, classes=3):
    """Probabilities with these largest ones."""
    rest = (1 - np.array(confidence)) / (classes - 1)
    probabilities = np.repeat(rest[:, None], classes, 1)
    probabilities[np.arange(len(labels)), predicted] = confidence
    return probabilities


def test_worst_mistakes_are_drawn_most_confident_first():
    labels, predicted = np.array([0, 1, 2, 1, 0]), np.array([0, 2, 1, 0, 1])
    probabilities = answers(labels, predicted, [0.9, 0.6, 0.95, 0.7, 0.5])
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1) * np.ones(
        (1, 4, 6, 1), np.uint8
    )
    figure = mistakes_figure(images, labels, probabilities, ["a", "b$", "c"])
    drawn = [axes for axes in figure.axes if axes.images]
    assert [int(axes.images[0].get_array()[0, 0]) for axes in drawn] == [2, 3, 1, 4]
    assert [axes.get_title() for axes in drawn][:2] == ["b$ 95%\nis c", "a 70%\nis b$"]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 1), (5, 1, 3), (4, 4, 3)])
def test_mistakes_of_every_shape_can_be_drawn(shape):
    images = np.zeros((2, *shape), np.uint8)
    probabilities = answers([0, 0], [1, 0], [0.8, 0.8])
    figure = mistakes_figure(images, np.array([0, 0]), probabilities, ["a", "b", "c"])
    assert sum(bool(axes.images) for axes in figure.axes) == 1
    figure.savefig(io.BytesIO(), format="png")


def test_names_that_look_like_formulas_are_drawn_as_they_are():
    picture = draw_confusion(np.array([[3, 1], [0, 2]]), ["$^$", "a$b$"])
    assert matplotlib.image.imread(io.BytesIO(picture)).size


def test_same_numbers_give_the_same_picture_to_the_byte(tmp_path):
    history = tmp_path / "history.csv"
    header = "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy"
    history.write_text(f"{header}\n1,2,0.1,3,0.2\n2,1,0.4,2,0.3\n")
    sha256 = digest(history.read_bytes())
    first, second = (draw_learning_curves(history, sha256) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "content", [b"", b"epoch\n1\n", b"\xff", b"epoch,train_loss\n1"]
)
def test_history_that_is_none_is_refused(tmp_path, content):
    history = tmp_path / "history.csv"
    history.write_bytes(content)
    with pytest.raises(DataError, match=r"history\.csv: expected a history, found"):
        draw_learning_curves(history, digest(content))


def test_history_of_another_run_is_refused(tmp_path):
    history = tmp_path / "history.csv"
    history.write_bytes(b"epoch,train_loss\n1,0.5\n")
    with pytest.raises(DataError, match=r"history\.csv: expected SHA-256"):
        draw_learning_curves(history, digest(b""))
