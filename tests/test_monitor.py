"""The best epoch and patience, against sequences worked out by hand."""

import pytest

from src.monitor import Monitor


def follow(values, name="validation_loss", mode="auto", patience=None, min_delta=0.0):
    monitor = Monitor(name, mode, patience, min_delta)
    for epoch, value in enumerate(values, start=1):
        monitor.improves(epoch, value)
        if monitor.exhausted:
            break
    return monitor.best_epoch, epoch


@pytest.mark.parametrize(
    ("settings", "best"),
    [
        ({"name": "validation_loss", "mode": "auto"}, 2),
        ({"name": "validation_accuracy", "mode": "auto"}, 3),
        ({"name": "validation_loss", "mode": "max"}, 3),
        ({"name": "validation_accuracy", "mode": "min"}, 2),
    ],
)
def test_best_epoch_follows_the_mode(settings, best):
    assert follow([0.5, 0.1, 0.9, 0.4], **settings) == (best, 4)


def test_patience_of_three_stops_after_exactly_three_epochs_without_improvement():
    assert follow([5, 4, 4, 4, 4, 1], patience=3) == (2, 5)


def test_improvement_starts_the_wait_anew():
    assert follow([5, 6, 6, 4, 5, 5, 5, 0], patience=3) == (4, 7)


def test_equal_value_is_no_improvement():
    assert follow([1.0, 1.0, 1.0], patience=2) == (1, 3)


def test_smaller_change_than_min_delta_is_no_improvement():
    assert follow([1.0, 0.95, 0.85], min_delta=0.1) == (3, 3)
    assert follow([1.0, 0.95, 0.91], min_delta=0.1, patience=2) == (1, 3)


def test_without_patience_nothing_stops():
    assert follow([1.0] + [2.0] * 50) == (1, 51)


def test_first_epoch_is_the_best_so_far_however_bad():
    assert follow([1e30]) == (1, 1)
