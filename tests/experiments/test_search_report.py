"""The results of a search: order, table, importances, picture."""

import pytest
from optuna.trial import TrialState, create_trial

from src.config.load import load_params
from src.errors import ParameterError
from src.experiments.search_report import (
    finished_trials,
    importances,
    ranked_trials,
    search_picture,
    search_table,
)
from src.experiments.search_rules import distributions
from src.experiments.search_space import parse_space
from tests.helpers.imports import ROOT

PARAMS = load_params(ROOT / "params.yaml")
SPACE = parse_space(["lr=1e-4..1e-1", "model=cnn,mlp", "epochs=5"], PARAMS)


def trial(number, value=None, epochs=(), note="", lr=0.01, model="cnn"):
    """A finished trial if it has a value, else one that was stopped."""
    made = create_trial(
        state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
        value=value if value is not None else (epochs[-1] if epochs else None),
        params={"lr": lr, "model": model, "epochs": "5"},
        distributions=distributions(SPACE),
        intermediate_values=dict(enumerate(epochs, 1)),
        user_attrs={"note": note},
    )
    made.number = number
    return made


def test_finished_trials_come_first_then_those_that_came_farther():
    trials = [
        trial(0, epochs=[0.1]),
        trial(1, note="refused: x"),
        trial(2, value=0.5, epochs=[0.9, 0.5]),
        trial(3, epochs=[0.9, 0.8]),
        trial(4, value=0.4, epochs=[0.7, 0.4]),
        trial(5, epochs=[0.05]),
    ]
    assert [each.number for each in ranked_trials(trials, True)] == [4, 2, 3, 5, 0, 1]
    assert [each.number for each in ranked_trials(trials, False)] == [2, 4, 3, 0, 5, 1]


def test_running_trial_has_no_rank():
    running = create_trial(state=TrialState.RUNNING)
    assert ranked_trials([running, trial(0, value=1.0)], True)[0].value == 1.0
    assert len(ranked_trials([running], True)) == 0


def test_table_has_the_values_the_score_and_how_each_trial_ended():
    rows = [
        trial(11, 0.25, note="best epoch 4", lr=0.0012842),
        trial(0, epochs=[1.0], note="stopped after epoch 1", model="mlp"),
        trial(1, note="refused: too large"),
    ]
    assert search_table(rows, SPACE, "validation_loss") == (
        "trial  model        lr  epochs  validation_loss\n"
        "12       cnn  0.001284       5             0.25  best epoch 4\n"
        "1        mlp      0.01       5                   stopped after epoch 1\n"
        "2        cnn      0.01       5                   refused: too large"
    )


def test_no_finished_trial_is_refused_with_the_first_reason():
    with pytest.raises(ParameterError, match=r"none in 2 trials; the first: no\."):
        finished_trials([trial(0, note="no."), trial(1, note="nor that")])
    with pytest.raises(ParameterError, match="found none in 0 trials; the first: none"):
        finished_trials([])


def test_parameter_that_decides_the_rank_is_the_important_one():
    rates = [10 ** -(1 + 0.1 * step) for step in range(30)]
    trials = [
        trial(number, rate, [rate], lr=rate, model=("cnn", "mlp")[number % 2])
        for number, rate in enumerate(rates)
    ]
    found = importances(ranked_trials(trials, True))
    assert list(found) == ["lr", "model"]  # `epochs` has one value
    assert sum(found.values()) == pytest.approx(1)
    assert found["lr"] > 0.9


@pytest.mark.parametrize("count", [1, 2, 5])
def test_picture_is_drawn_of_few_trials_and_always_the_same(count):
    trials = [trial(number, 0.1 * number, [0.5], "x") for number in range(count)]
    trials.append(trial(count, note="refused: x"))
    pictures = [search_picture(trials, SPACE, "validation_loss") for _ in range(2)]
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith(b"\x89PNG")
