"""What a search proposes, and which trials it stops."""

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.pruners import SuccessiveHalvingPruner
from optuna.trial import TrialState, create_trial

from src.config.load import load_params
from src.experiments.search_rules import (
    REDUCTION,
    distributions,
    is_behind,
    is_rung,
    propose,
)
from src.experiments.search_space import chosen_values, parse_space
from tests.helpers.imports import ROOT

PARAMS = load_params(ROOT / "params.yaml")
WORDS = "lr=1e-4..1e-1", "model=cnn,resnet", "hidden=8..512"


def finished(space, params, number, value, state=TrialState.COMPLETE):
    trial = create_trial(
        state=state,
        value=None if state == TrialState.RUNNING else value,
        params=params,
        distributions=distributions(space),
    )
    trial.number = number
    return trial


def search(space, count, seed=0, minimize=True, value=lambda params: params["lr"]):
    trials, own = [], PARAMS.model_copy(update={"seed": seed})
    for number in range(count):
        params = propose(trials, space, own, minimize)
        trials.append(finished(space, params, number, value(params)))
    return trials


def test_proposal_is_a_function_of_seed_and_earlier_trials():
    space = parse_space(WORDS, PARAMS)
    trials = search(space, 14)
    other = PARAMS.model_copy(update={"seed": 1})
    for number in (0, 5, 13):  # random ones, and one by the estimator
        again = propose(trials[:number], space, PARAMS, True)
        assert again == trials[number].params
    assert propose(trials[:13], space, other, True) != trials[13].params
    assert len({trial.params["lr"] for trial in trials}) == 14


@pytest.mark.parametrize("minimize", [True, False])
def test_proposals_move_to_better_values(minimize):
    """The logarithm of lr is uniform in [-4, -1] at first; its mean is -2.5."""
    space = parse_space(["lr=1e-4..1e-1"], PARAMS)
    trials = search(space, 30, minimize=minimize)
    middle = sorted(trial.params["lr"] for trial in trials[15:])[7]
    assert (middle < 1e-3) if minimize else (middle > 1e-2)


def test_running_trials_of_other_workers_are_avoided():
    space = parse_space(WORDS, PARAMS)
    trials = search(space, 12)
    first = propose(trials, space, PARAMS, True)
    running = [*trials, finished(space, first, 12, None, TrialState.RUNNING)]
    assert propose(running, space, PARAMS, True) != first


def test_finite_space_is_tried_completely_and_nothing_twice():
    space = parse_space(["model=mlp,cnn,cnn_max", "epochs=1..4", "lr=0.1"], PARAMS)
    trials = search(space, 12, value=lambda params: params["epochs"])
    values = [tuple(chosen_values(space, trial.params).items()) for trial in trials]
    assert len(set(values)) == 12


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [(1, []), (2, [1]), (5, [1, 2]), (8, [1, 2, 4]), (81, [1, 2, 4, 8, 16, 32])],
)
def test_rungs_are_the_powers_up_to_half_of_the_epochs(epochs, rungs):
    assert [each for each in range(1, epochs + 1) if is_rung(each, epochs)] == rungs


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.booleans(),
)
def test_the_same_trials_are_stopped_as_by_optuna(values, minimize):
    pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)
    direction = "minimize" if minimize else "maximize"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=direction, pruner=pruner)
    for number, value in enumerate(values):
        trial = study.ask()
        trial.report(value, step=1)
        assert trial.should_prune() == is_behind(value, values[:number], minimize)


@pytest.mark.parametrize("minimize", [True, False])
def test_value_that_is_no_number_is_stopped(minimize):
    assert is_behind(float("nan"), [], minimize)
    assert is_behind(float("nan"), [1.0, 2.0, 3.0], minimize)


def test_values_of_others_that_are_no_numbers_count_as_worst():
    nan = float("nan")
    assert not is_behind(1.0, [nan, nan], minimize=True)
    assert not is_behind(1.0, [nan, nan], minimize=False)
