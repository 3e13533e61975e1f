"""The order of an epoch with `sampling_power`: how often each example is drawn."""

import numpy as np
import pytest

from src.training.data import epoch_order
from tests.helpers.training import run

COUNTS = np.array([700, 200, 90, 10])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), COUNTS))


def drawn(power, labels=LABELS, batch_size=1, seed=0, epoch=1):
    """How often each example is drawn in an epoch."""
    order = epoch_order(labels, batch_size, seed, epoch, power)
    assert order.dtype == np.int32
    assert order.shape == (len(labels) // batch_size, batch_size)
    return np.bincount(order.reshape(-1), minlength=len(labels))


def expected(power):
    """The expected number of draws of each example."""
    share = COUNTS ** (1 - power) / (COUNTS ** (1 - power)).sum()
    return (share * 1000 / COUNTS)[LABELS]


def test_power_zero_is_the_plain_permutation():
    plain = np.random.default_rng((5, 3, 2)).permutation(1000)[:990].reshape(11, 90)
    np.testing.assert_array_equal(epoch_order(LABELS, 90, 5, 2, 0.0), plain)


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0])
def test_each_example_is_drawn_as_often_as_expected_rounded_down_or_up(power):
    for epoch in range(1, 5):
        counts = drawn(power, epoch=epoch)
        assert counts.sum() == 1000
        assert np.all(np.abs(counts - expected(power)) < 1)
        by_class = np.bincount(LABELS, counts)
        assert np.all(np.abs(by_class - np.bincount(LABELS, expected(power))) < 1)


def test_power_one_draws_all_classes_equally_often():
    np.testing.assert_array_equal(np.bincount(LABELS, drawn(1.0)), [250] * 4)


def test_all_examples_have_their_turn_over_many_epochs():
    total = sum(drawn(1.0, epoch=epoch) for epoch in range(1, 401))
    mean = total / 400
    # The counts of an epoch differ from their mean by less than 1.
    assert np.abs(mean - expected(1.0)).max() < 4 * 0.5 / np.sqrt(400)


def test_an_epoch_of_resampled_examples_is_shuffled():
    classes = LABELS[epoch_order(LABELS, 1, 0, 1, 1.0)].reshape(10, 100)
    # Each tenth of the epoch has all classes.
    assert all((np.bincount(part, minlength=4) > 5).all() for part in classes)


def test_order_is_a_function_of_seed_and_epoch():
    order = epoch_order(LABELS, 10, 0, 1, 0.5)
    np.testing.assert_array_equal(epoch_order(LABELS, 10, 0, 1, 0.5), order)
    for seed, epoch in ((0, 2), (1, 1)):
        assert np.any(epoch_order(LABELS, 10, seed, epoch, 0.5) != order)


def test_equal_classes_are_drawn_once_whatever_the_power():
    labels = np.tile(np.arange(5), 7)
    np.testing.assert_array_equal(drawn(1.0, labels), np.ones(35))


def test_a_class_without_examples_changes_nothing():
    labels = np.repeat([0, 3], [30, 10])
    counts = drawn(1.0, labels)
    np.testing.assert_array_equal(np.bincount(labels, counts), [20, 0, 0, 20])


@pytest.mark.slow
def test_resampled_training_differs_and_is_bit_identical_when_repeated(params):
    changes = {"sampling_power": 1.0, "epochs": 2}
    first, second, plain = run(params, **changes), run(params, **changes), None
    plain = run(params, epochs=2)
    assert first[0] == second[0]
    assert first[0] != plain[0]
