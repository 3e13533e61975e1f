"""The temperature against scipy's minimizer of the loss."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax as scipy_log_softmax

from src.evaluation.temperature import fit_temperature, log_softmax


def answers(count, classes, sharpness, seed):
    """Logits of a network that errs, multiplied by `sharpness`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes)) + 2 * np.eye(classes)[labels]
    return (sharpness * logits).astype(np.float32), labels


def loss(logits, labels, temperature):
    shares = scipy_log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return -shares[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("classes", [2, 10])
def test_temperature_minimizes_the_loss_as_scipy_does(sharpness, classes):
    logits, labels = answers(400, classes, sharpness, seed=classes)
    found = minimize_scalar(
        lambda log: loss(logits, labels, np.exp(log)),
        bounds=(-2.9, 2.9),
        method="bounded",
        options={"xatol": 1e-9},
    )
    temperature, warning = fit_temperature(logits, labels)
    assert temperature == pytest.approx(np.exp(found.x), abs=2e-6, rel=1e-6)
    assert warning == ""


def test_sharper_logits_get_a_temperature_as_much_higher():
    logits, labels = answers(300, 4, 1.0, seed=0)
    once, fourfold = (fit_temperature(logits * s, labels).value for s in (1, 4))
    assert fourfold == pytest.approx(4 * once, rel=1e-5)


def test_temperature_of_one_class_is_fitted_like_any_other():
    logits, _ = answers(300, 3, 2.0, seed=1)
    labels = np.zeros(300, int)
    logits[:, 0] += 4
    temperature = fit_temperature(logits, labels).value
    for other in (temperature / 1.01, temperature * 1.01):
        assert loss(logits, labels, other) > loss(logits, labels, temperature)


def test_network_that_never_errs_keeps_its_probabilities_with_a_warning():
    labels = np.arange(30) % 3
    found = fit_temperature(5 * np.eye(3, dtype=np.float32)[labels], labels)
    assert found.value == 1.0
    assert "the network gets wrong, found none of 30" in found.warning


@pytest.mark.parametrize(
    ("sharpness", "expected"), [(0.001, 0.05), (1000.0, 20.0)], ids=["flat", "sharp"]
)
def test_temperature_is_bounded_with_a_warning(sharpness, expected):
    found = fit_temperature(*answers(300, 3, sharpness, seed=2))
    assert found.value == expected
    assert f"found the best one beyond {expected:g}" in found.warning


def test_network_that_is_wrong_more_often_than_chance_gets_the_highest():
    logits, labels = answers(300, 3, 1.0, seed=3)
    assert fit_temperature(-logits, labels).value == 20.0


def test_log_softmax_of_large_logits_matches_scipy():
    logits, _ = answers(50, 6, 1e4, seed=4)
    expected = scipy_log_softmax(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(log_softmax(logits), expected, rtol=1e-12)
