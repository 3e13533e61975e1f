"""The plots, checked through matplotlib's figure objects."""

import io
import warnings
from itertools import pairwise

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from src.errors import DataError
from src.reporting.fonts import fonts_for
from src.reporting.plots import (
    calibration_figure,
    confusion_figure,
    draw_confusion,
    draw_curves,
    draw_learning_curves,
    mistakes_figure,
)
from src.storage.reading import digest

HEADER = "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy"


def answers(labels, predicted, confidence, classes=3):
    """Probabilities with these largest ones."""
    rest = (1 - np.array(confidence)) / (classes - 1)
    probabilities = np.repeat(rest[:, None], classes, 1)
    probabilities[np.arange(len(labels)), predicted] = confidence
    return probabilities


def test_mistakes_are_drawn_most_confident_first():
    labels, predicted = np.array([0, 1, 2, 1, 0]), np.array([0, 2, 1, 0, 1])
    probabilities = answers(labels, predicted, [0.9, 0.6, 0.95, 0.7, 0.5])
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1) * np.ones(
        (1, 4, 6, 1), np.uint8
    )
    names = ["a", "b$", "c"]
    figure = mistakes_figure(images, labels, probabilities, names, [""] * 5)
    drawn = [axes for axes in figure.axes if axes.images]
    assert [int(axes.images[0].get_array()[0, 0]) for axes in drawn] == [2, 3, 1, 4]
    assert [axes.get_title() for axes in drawn][:2] == [
        "b$ 95%\nactual c (#2)",
        "a 70%\nactual b$ (#3)",
    ]


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("test/b/1.jpg", "test/b/1.jpg"),
        ("test/a class of mine/IMG_20240512_0001.jpg", "...IMG_20240512_0001.jpg"),
        ("b/\u202egpj.1\n.png", r"b/\u202egpj.1\n.png"),
        ("$a$/_^{1.png", "$a$/_^{1.png"),
    ],
    ids=["short", "long", "unprintable", "formula"],
)
def test_mistake_names_its_file(file, shown):
    images, labels = np.zeros((3, 4, 4, 1), np.uint8), np.array([0, 1, 2])
    probabilities = answers(labels, [0, 2, 2], [0.9, 0.6, 0.95])
    files = ["a/0.jpg", file, "c/2.jpg"]
    figure = mistakes_figure(images, labels, probabilities, ["a", "b", "c"], files)
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == [f"c 60%\nactual b (#1)\n{shown}"]
    figure.savefig(io.BytesIO(), format="png")


def test_title_of_a_file_keeps_clear_of_its_neighbours():
    labels, images = np.zeros(25, int), np.zeros((25, 8, 8, 1), np.uint8)
    probabilities = answers(labels, labels + 1, np.linspace(0.5, 0.9, 25))
    files = [f"test/some folder/IMG_20240512_{row:04}.jpg" for row in range(25)]
    figure = mistakes_figure(images, labels, probabilities, ["a", "b", "c"], files)
    figure.savefig(io.BytesIO(), format="png")
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    boxes += [axes.get_window_extent() for axes in figure.axes]
    overlaps = [
        (one, other)
        for row, one in enumerate(boxes)
        for other in boxes[row + 1 :]
        if one.shrunk(0.99, 0.99).overlaps(other.shrunk(0.99, 0.99))
    ]
    assert overlaps == []


def test_at_most_25_mistakes_are_drawn_and_all_are_counted():
    labels, images = np.zeros(40, int), np.zeros((40, 4, 4, 3), np.uint8)
    probabilities = answers(labels, labels + 1, np.linspace(0.5, 0.9, 40))
    names, files = ["a", "b", "c"], [""] * 40
    figure = mistakes_figure(images, labels, probabilities, names, files)
    assert sum(bool(axes.images) for axes in figure.axes) == 25
    assert figure.get_suptitle().startswith("40 of 40 test images wrong")


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 1), (5, 1, 3), (4, 4, 3)])
def test_mistakes_of_every_shape_can_be_drawn(shape):
    images = np.zeros((2, *shape), np.uint8)
    probabilities = answers([0, 0], [1, 0], [0.8, 0.8])
    names, labels = ["a", "b", "c"], np.array([0, 0])
    figure = mistakes_figure(images, labels, probabilities, names, ["", ""])
    assert sum(bool(axes.images) for axes in figure.axes) == 1
    figure.savefig(io.BytesIO(), format="png")


def test_names_that_look_like_formulas_are_drawn_verbatim():
    picture = draw_confusion(np.array([[3, 1], [0, 2]]), ["$^$", "a$b$"])
    assert matplotlib.image.imread(io.BytesIO(picture)).size


@pytest.mark.parametrize("classes", [2, 5, 30])
@pytest.mark.parametrize("letter", ["a", "W", "猫", "i"])
def test_long_class_names_stay_inside_of_the_confusion_matrix(classes, letter):
    names = [f"{letter * 95}{number}" for number in range(classes)]
    with fonts_for(names), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r"Glyph \d+")
        figure = confusion_figure(np.eye(classes, dtype=int), names)
        figure.savefig(io.BytesIO(), format="png")
        whole = figure.bbox.padded(1)
        (axes,) = figure.axes
        labels = [*axes.get_xticklabels(), *axes.get_yticklabels()]
        shown = [label.get_text() for label in labels]
        boxes = [label.get_window_extent() for label in labels]
    assert all(whole.containsx(box.x0) and whole.containsy(box.y0) for box in boxes)
    assert all(whole.containsx(box.x1) and whole.containsy(box.y1) for box in boxes)
    assert len(set(shown)) == classes
    assert axes.get_window_extent().width > figure.bbox.width / 4


@pytest.mark.parametrize("letter", ["a", "猫"])
def test_long_class_names_keep_clear_of_the_neighbouring_mistakes(letter):
    labels, images = np.zeros(10, int), np.zeros((10, 8, 8, 1), np.uint8)
    probabilities = answers(labels, labels + 1, np.linspace(0.5, 0.9, 10))
    names = [f"{letter * 95}{number}" for number in range(3)]
    with fonts_for(names), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+")
        figure = mistakes_figure(images, labels, probabilities, names, [""] * 10)
        figure.savefig(io.BytesIO(), format="png")
        boxes = [axes.title.get_window_extent() for axes in figure.axes]
    for left, right in pairwise(boxes[:5]):
        assert left.x1 <= right.x0
    assert boxes[0].x0 >= 0
    assert boxes[4].x1 <= figure.bbox.x1


@pytest.mark.parametrize("classes", [2, 31, 130])
def test_confusion_of_any_number_of_classes_can_be_drawn(classes):
    picture = draw_confusion(np.eye(classes, dtype=int), ["a"] * classes)
    assert matplotlib.image.imread(io.BytesIO(picture)).size


def test_equal_numbers_give_the_same_picture_to_the_byte(tmp_path):
    history = tmp_path / "history.csv"
    history.write_text(f"{HEADER}\n1,2,0.1,3,0.2\n2,1,0.4,2,0.3\n")
    sha256 = digest(history.read_bytes())
    first, second = (draw_learning_curves(history, sha256, 1) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"epoch\n1\n",
        b"\xff",
        b"epoch,train_loss\n1",
        *(
            f"{HEADER}\n1,2,0.1,3,0.2\n{epoch},1,0.4,2,0.3\n".encode()
            for epoch in ("inf", "nan", "0", "-1", "1", "1e400", "x")
        ),
        f"{HEADER}\n0,2,0.1,3,0.2\n".encode(),
    ],
)
def test_file_without_a_history_of_rising_epochs_is_refused(tmp_path, content):
    history = tmp_path / "history.csv"
    history.write_bytes(content)
    with pytest.raises(DataError, match=r"history\.csv: expected a history, found"):
        draw_learning_curves(history, digest(content), 1)


def test_history_of_another_run_is_refused(tmp_path):
    history = tmp_path / "history.csv"
    history.write_bytes(b"epoch,train_loss\n1,0.5\n")
    with pytest.raises(DataError, match=r"history\.csv: expected SHA-256"):
        draw_learning_curves(history, digest(b""), 1)


def curves_of(values, best=1):
    """The axes with these values as validation curve, drawn."""
    figure = Figure()
    axes = figure.subplots()
    epochs = range(1, len(values) + 1)
    draw_curves(axes, epochs, {"train": values, "validation": values}, best)
    figure.savefig(io.BytesIO(), format="png")
    return axes


def test_curve_has_a_gap_at_nan_and_the_best_epoch_is_marked():
    axes = curves_of([0.5, float("nan"), 0.25], best=3)
    _, validation, best = axes.lines
    np.testing.assert_array_equal(validation.get_ydata(), [0.5, np.nan, 0.25])
    assert validation.get_marker() == "."
    assert set(best.get_xdata()) == {3}
    assert best.get_label() == "best: epoch 3"


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([2.3, 0.01], "log"),
        ([2.3, 0.5], "linear"),
        ([0.0], "linear"),
        ([0.5, 0.5], "linear"),
        ([1e-320, 0], "linear"),
        ([1.7e308, 1.0], "linear"),
        ([1e99, 1e-99], "log"),
        ([float("nan"), float("nan")], "linear"),
        ([float("inf"), 1.0], "linear"),
        ([-3.0, 4.0], "linear"),
        ([0.9999, 0.99991], "linear"),
        ([float(value) for value in range(5000)], "linear"),
    ],
)
def test_curve_of_any_numbers_can_be_drawn(values, scale):
    axes = curves_of(values)
    assert axes.get_yscale() == scale
    assert np.isfinite(axes.get_ylim()).all()


def test_points_of_calibration_are_means_of_their_bins():
    confidence = np.array([0.41, 0.45, 0.95, 1.0])  # of 15 bins: 7th and last
    correct = np.array([True, False, True, True])
    axes, counts = calibration_figure(confidence, correct).axes
    points = [container.lines[0].get_xydata()[0] for container in axes.containers]
    np.testing.assert_allclose(points, [(0.43, 0.5), (0.975, 1)])
    heights = [patch.get_height() for patch in counts.patches]
    assert [heights[6], heights[14], sum(heights)] == [2, 2, 4]


@pytest.mark.parametrize("right", [True, False])
def test_calibration_where_all_or_none_is_correct_can_be_drawn(right):
    figure = calibration_figure(np.full(3, 0.7), np.full(3, right))
    figure.savefig(io.BytesIO(), format="png")
