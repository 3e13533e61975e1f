"""The best epoch and patience, against sequences worked out by hand."""

import math

import pytest

from src.config.load import load_params
from src.training.early_stopping import BestTracker, build_early_stopping, build_plateau
from tests.helpers.imports import ROOT

PARAMS = load_params(ROOT / "params.yaml")
NAN = float("nan")


def follow(values, **changes):
    """The best epoch, the last epoch, and the reason to stop."""
    changes = {"monitor": "validation_loss", **changes}
    monitor = build_early_stopping(PARAMS.model_copy(update=changes))
    for epoch, value in enumerate(values, start=1):
        monitor.update(epoch, value)
        if monitor.reason:
            break
    return monitor.best.epoch, epoch, monitor.reason and monitor.reason.split(":")[0]


@pytest.mark.parametrize(
    ("settings", "best"),
    [
        ({"monitor": "validation_loss", "monitor_mode": "auto"}, 2),
        ({"monitor": "validation_accuracy", "monitor_mode": "auto"}, 3),
        ({"monitor": "validation_loss", "monitor_mode": "max"}, 3),
        ({"monitor": "validation_accuracy", "monitor_mode": "min"}, 2),
    ],
)
def test_best_epoch_follows_the_mode(settings, best):
    assert follow([0.5, 0.1, 0.9, 0.4], **settings) == (best, 4, None)


def test_patience_of_three_stops_after_exactly_three_epochs_without_improvement():
    assert follow([5, 4, 4, 4, 4, 1], patience=3) == (2, 5, "patience")


def test_improvement_resets_patience():
    assert follow([5, 6, 6, 4, 5, 5, 5, 0], patience=3) == (4, 7, "patience")


def test_equal_value_does_not_improve():
    assert follow([1.0, 1.0, 1.0], patience=2) == (1, 3, "patience")


def test_change_below_min_delta_does_not_improve():
    assert follow([1.0, 0.95, 0.85], min_delta=0.1) == (3, 3, None)
    found = follow([1.0, 0.95, 0.91], min_delta=0.1, patience=2)
    assert found == (1, 3, "patience")


def test_without_patience_nothing_stops():
    assert follow([1.0] + [2.0] * 50) == (1, 51, None)


def test_first_epoch_is_the_best_so_far():
    assert follow([1e30]) == (1, 1, None)


def test_nan_is_never_the_best():
    assert follow([NAN, 3.0, NAN, 2.0], patience=4) == (4, 4, None)
    assert follow([NAN, NAN, NAN], patience=3) == (0, 3, "patience")


def test_mode_max_takes_the_larger_value_as_the_better_one():
    found = follow([0.1, 0.3, 0.2, 0.2, 0.9], monitor_mode="max", patience=2)
    assert found == (2, 4, "patience")


@pytest.mark.parametrize(("first", "last"), [(1, 4), (2, 4), (3, 5), (4, 6), (5, 7)])
def test_patience_counts_from_start_from_epoch(first, last):
    values = [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    found = follow(values, patience=3, start_from_epoch=first)
    assert found == (1, last, "patience")


def test_epoch_before_the_first_counted_one_can_still_be_the_best():
    assert follow([0.1, 0.5, 0.4], start_from_epoch=3) == (1, 3, None)


@pytest.mark.parametrize(
    ("name", "values", "good", "last"),
    [
        ("validation_loss", [0.5, 0.3, 0.2, 0.1], 0.2, 3),
        ("validation_accuracy", [0.5, 0.9, 0.95], 0.9, 2),
    ],
)
def test_reaching_stop_at_stops(name, values, good, last):
    found = follow(values, monitor=name, stop_at=good)
    assert found == (last, last, "stop_at")


@pytest.mark.parametrize(
    ("name", "values", "bad"),
    [
        ("validation_loss", [9.0, 2.0, 1.0, 5.0, 1.0], 4.0),
        ("validation_accuracy", [0.1, 0.5, 0.6, 0.2, 0.7], 0.3),
        ("validation_loss", [9.0, 2.0, 1.0, NAN, 1.0], 4.0),
    ],
)
def test_stop_if_worse_than_applies_from_start_from_epoch(name, values, bad):
    found = follow(values, monitor=name, stop_if_worse_than=bad, start_from_epoch=2)
    assert found == (3, 4, "stop_if_worse_than")


def rates(values, **changes):
    """The learning rate of each epoch, including the first."""
    defaults = {"monitor": "validation_loss", "lr": 1.0, "lr_factor": 0.5}
    defaults |= {"lr_patience": 2, "lr_cooldown": 0, "lr_end": 0.0}
    plateau = build_plateau(PARAMS.model_copy(update=defaults | changes))
    found = [1.0]
    for epoch, value in enumerate(values, start=1):
        plateau = plateau.after(epoch, value)
        found.append(plateau.rate)
    return found


@pytest.mark.parametrize(
    ("values", "changes", "expected"),
    [
        ([3, 2, 1], {}, [1, 1, 1, 1]),
        ([1, 1, 1, 1, 1], {}, [1, 1, 1, 0.5, 0.5, 0.25]),
        ([1, 2, 0.5, 2, 2], {}, [1, 1, 1, 1, 1, 0.5]),
        ([1, 1, 1, 1, 1], {"lr_patience": 1}, [1, 1, 0.5, 0.25, 0.125, 0.0625]),
        # Two epochs of cooldown do not count: 1, 1 | 1 1 | 1, 1.
        ([1] * 7, {"lr_cooldown": 2}, [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]),
        ([1, 1, 1, 1, 1], {"lr_end": 0.4}, [1, 1, 1, 0.5, 0.5, 0.4]),
        ([NAN, NAN, NAN], {}, [1, 1, 0.5, 0.5]),
        ([NAN, 1, 1, 1], {}, [1, 1, 1, 1, 0.5]),
        ([1, 0.95, 0.92], {"min_delta": 0.1}, [1, 1, 1, 0.5]),
        ([0.1, 0.2, 0.2, 0.2], {"monitor_mode": "max"}, [1, 1, 1, 1, 0.5]),
    ],
)
def test_plateau_lowers_the_rate_by_hand_made_sequences(values, changes, expected):
    assert rates(values, **changes) == expected


def test_plateau_matches_torch_with_one_less_epoch_of_patience():
    """`ReduceLROnPlateau(patience=p - 1, threshold_mode="abs")`, written out."""
    values = [5, 4, 4.2, 4.1, 4.3, 3, 3.5, 3.2, 3.1, 3.05, 3.2, 2.9, 3, 3, 3, 3, 3]
    best, bad, cooling, rate, expected = math.inf, 0, 0, 1.0, [1.0]
    for value in values:
        if value < best - 0.05:
            best, bad = value, 0
        else:
            bad += 1
        if cooling > 0:
            cooling, bad = cooling - 1, 0
        if bad > 1:
            rate, cooling, bad = max(rate * 0.5, 0.1), 1, 0
        expected.append(rate)
    assert rates(values, lr_cooldown=1, min_delta=0.05, lr_end=0.1) == expected


def test_gain_follows_the_mode():
    assert BestTracker("train_loss", "auto", 0.0).gain(1.0, 3.0) == 2.0
    assert BestTracker("train_accuracy", "auto", 0.0).gain(1.0, 3.0) == -2.0
