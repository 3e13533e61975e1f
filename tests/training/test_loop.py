"""Epochs: their order, their rows, and divergence."""

import numpy as np
import pytest

from src.errors import DivergedError, ParameterError
from src.training.chunk import ChunkResult, MetricSums
from src.training.data import count_steps, epoch_order
from src.training.loop import check_finite
from tests.helpers.training import run


def order_of(examples, batch_size, seed, epoch):
    """The order without resampling."""
    return epoch_order(np.zeros(examples, np.int32), batch_size, seed, epoch, 0.0)


def test_order_visits_no_example_twice():
    order = order_of(103, 10, seed=0, epoch=1)
    assert order.shape == (10, 10)
    assert len(np.unique(order)) == 100
    assert set(order.flat) <= set(range(103))


def test_two_epochs_have_different_orders():
    first, second = (order_of(100, 10, seed=0, epoch=epoch) for epoch in (1, 2))
    assert np.any(first != second)


def test_two_runs_have_the_same_order():
    first, second = (order_of(100, 10, seed=3, epoch=7) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_another_seed_gives_another_order():
    assert np.any(order_of(100, 10, 0, 1) != order_of(100, 10, 1, 1))


def test_left_out_examples_differ_from_epoch_to_epoch():
    left_out = [
        frozenset(range(15)) - set(order_of(15, 10, 0, epoch).flat)
        for epoch in range(1, 9)
    ]
    assert len(set(left_out)) > 1


def test_two_runs_are_bit_identical(params):
    one, other = (run(params) for _ in range(2))
    assert one[0] == other[0]
    for (first, weights), (second, again) in zip(one[1], other[1], strict=True):
        assert (first.train, first.validation) == (second.train, second.validation)
        for name, array in weights.items():
            np.testing.assert_array_equal(array, again[name])


@pytest.mark.parametrize("log_every", [1, pytest.param(1000, marks=pytest.mark.slow)])
def test_logging_more_often_changes_no_bit(params, log_every):
    _, expected = run(params, log_every=5)
    _, found = run(params, log_every=log_every)
    for (first, weights), (second, again) in zip(expected, found, strict=True):
        assert (first.train, first.validation) == (second.train, second.validation)
        for name, array in weights.items():
            np.testing.assert_array_equal(array, again[name])


def test_rows_of_steps_add_up_to_their_epoch(params):
    steps, epochs = run(params, log_every=4, batch_size=10)
    for epoch, _ in epochs:
        rows = [row for row in steps if row.epoch == epoch.epoch]
        assert [row.step - (epoch.epoch - 1) * 10 for row in rows] == [4, 8, 10]
        sizes = np.array([40, 40, 20])
        losses = np.array([row.train.loss for row in rows])
        assert losses @ sizes / 100 == pytest.approx(epoch.train.loss, rel=1e-6)


def test_logged_learning_rate_follows_the_schedule(params):
    changes = {"schedule": "warmup_cosine", "warmup_epochs": 1, "lr": 0.5}
    steps, _ = run(params, log_every=1, batch_size=10, **changes)
    warmup = [0.5 * step / 10 for step in range(10)]
    cosine = [0.25 * (1 + np.cos(np.pi * step / 20)) for step in range(20)]
    np.testing.assert_allclose(
        [row.lr for row in steps], warmup + cosine, rtol=1e-5, atol=1e-7
    )


def test_training_learns_the_stripes(params):
    _, epochs = run(params, epochs=12)
    assert epochs[-1][0].validation.accuracy > 0.9


def test_divergence_names_step_learning_rate_and_gradient_norm(params):
    with pytest.raises(
        DivergedError,
        match=r"step \d+ \(epoch 1\): expected finite numbers, found loss (nan|inf) "
        r"and gradient norm (nan|inf) at learning rate 1e\+30\.",
    ):
        run(params, optimizer="sgd", schedule="constant", lr=1e30)


@pytest.mark.parametrize(("before", "advice"), [(0, "No weight has"), (1, "Lower lr")])
def test_divergence_blames_the_learning_rate_from_the_second_step_on(before, advice):
    number, lost = np.float32(0), np.float32(np.nan)
    sums = MetricSums(number, number, number, np.int32(0))
    chunk = ChunkResult(sums, np.int32(1), number, lost, lost, np.bool(True), None)
    with pytest.raises(DivergedError, match=rf"^step {before + 1} .*\. {advice}"):
        check_finite(chunk, epoch=1, steps_before=before)


def test_batch_larger_than_the_split_is_refused_and_names_the_largest_size():
    with pytest.raises(ParameterError, match=r"at most the 100 .*found 101. Use 100"):
        count_steps(examples=100, batch_size=101)
