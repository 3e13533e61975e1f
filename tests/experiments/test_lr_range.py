"""The LR range test: rates, suggestion and early end."""

import numpy as np
import pytest

from src.errors import DivergedError
from src.experiments.lr_range import LRRange, find_range
from src.training.batches import DeviceBatches
from tests.helpers.examples import patterned
from tests.helpers.running import run_stage
from tests.helpers.training import TINY

SPLIT = DeviceBatches(patterned(100, seed=0))


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_rates_grow_by_the_same_factor_from_the_lowest_to_the_highest(
    params, precision
):
    changes = {"precision": precision}
    changes |= {"lr_range_low": 1e-5, "lr_range_high": 1e-2, "lr_range_steps": 31}
    found = find_range(SPLIT, TINY, params.model_copy(update=changes))
    np.testing.assert_allclose(found.rates, np.geomspace(1e-5, 1e-2, 31), rtol=1e-5)


def test_smoothed_loss_is_the_bias_corrected_running_mean(params):
    changes = {"lr_range_low": 1e-5, "lr_range_high": 1e-2, "lr_range_steps": 12}
    found = find_range(SPLIT, TINY, params.model_copy(update=changes))
    for step in range(12):
        shares = 0.9 ** np.arange(step, -1, -1)
        expected = shares @ found.losses[: step + 1] / shares.sum()
        assert found.smoothed[step] == pytest.approx(expected, rel=1e-9)


def test_lr_range_test_stops_where_the_loss_explodes(params):
    changes = {"optimizer": "sgd", "lr_range_high": 1e9, "lr_range_steps": 40}
    found = find_range(SPLIT, TINY, params.model_copy(update=changes))
    assert len(found.rates) < 40
    assert np.isfinite(found.losses).all()


def test_suggestion_is_where_the_loss_falls_fastest_before_its_lowest_point():
    rates = np.geomspace(1e-5, 1, 6)
    smoothed = np.array([2.0, 1.9, 1.2, 1.0, 3.0, 0.5 + 8])
    # Central differences per factor of ten: -.1, -.4, -.45, +.9, ...
    assert LRRange(rates, smoothed, smoothed).suggestion == rates[2]


def test_divergence_at_the_lowest_rate_is_an_error(params):
    changes = {"optimizer": "sgd", "lr_range_low": 1e37, "lr_range_high": 1e38}
    with pytest.raises(DivergedError, match="Lower lr_range_low"):
        find_range(SPLIT, TINY, params.model_copy(update=changes))


@pytest.mark.slow
def test_stage_draws_the_curve_and_suggests_a_rate(prepared, write_params):
    write_params(model="mlp", batch_size=16, lr_range_steps=20)
    result = run_stage("lr_range", prepared)
    assert result.returncode == 0, result.stderr
    assert "the loss falls fastest at lr " in result.stdout
    table = (prepared / "metrics/plots/lr_range.csv").read_text().splitlines()
    assert table[0] == "rates,losses,smoothed"
    rates = [float(row.split(",")[0]) for row in table[1:]]
    np.testing.assert_allclose(
        rates, np.geomspace(1e-6, 1, 20)[: len(rates)], rtol=1e-5
    )
    assert (prepared / "metrics/plots/lr_range.png").read_bytes()[1:4] == b"PNG"
