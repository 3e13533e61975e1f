"""What a search tries next, and when it gives a trial up: functions of the trials.

Nothing random is carried from trial to trial, and no decision is stored. So a search
that was killed continues as if it had not been.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from src.config.params import Params
from src.experiments.search_space import Choices, Range, Space, chosen_values

SEARCH_STREAM = 6  # random stream of the seed
# Trials are compared after epochs 1, RATIO, RATIO^2, ..., up to epochs / RATIO; 1 in
# REDUCTION stays. Later, stopping a trial would save little.
RATIO, REDUCTION = 2, 3


def propose(
    trials: Sequence[FrozenTrial], space: Space, params: Params, minimize: bool
) -> dict[str, Any]:
    """The parameters of the next trial, as optuna has them.

    Trial n is drawn from `(seed, n)`. Values that were tried before are drawn again.

    Source: Watanabe 2023, arXiv:2304.11127, for the tree-structured Parzen estimator.

    Args:
        trials: all so far; fewer different ones than the space holds.
        space: of the search.
        params: of the project.
        minimize: whether a lower value is better.
    """
    tried = [chosen_values(space, trial.params) for trial in trials]
    draw = 0
    while True:
        key = params.seed, SEARCH_STREAM, len(trials), draw
        number = int(np.random.SeedSequence(key).generate_state(1)[0])
        # The estimator would propose its favourite again and again.
        sampler = RandomSampler(number) if draw else TPESampler(seed=number)
        study = memory_study(trials, sampler, minimize)
        proposed = study.ask(distributions(space)).params
        if chosen_values(space, proposed) not in tried:
            return proposed
        draw += 1


def memory_study(
    trials: Sequence[FrozenTrial], sampler: BaseSampler | None, minimize: bool
) -> optuna.Study:
    """A study in memory with these trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler, direction=direction(minimize))
    study.add_trials(trials)
    return study


def direction(minimize: bool) -> StudyDirection:
    """The direction of a study as optuna has it."""
    return StudyDirection.MINIMIZE if minimize else StudyDirection.MAXIMIZE


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The space as optuna has it."""
    return {key: distribution(domain) for key, domain in space.items()}


def distribution(domain: Range | Choices) -> BaseDistribution:
    """The values of one parameter as optuna has them; choices by their texts."""
    if isinstance(domain, Choices):
        return CategoricalDistribution(list(domain.values))
    if domain.integer:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)


def is_rung(epoch: int, epochs: int) -> bool:
    """Whether trials are compared after an epoch."""
    rung = 1
    while rung < epoch:
        rung *= RATIO
    return rung == epoch and rung * RATIO <= epochs


def is_behind(value: float, others: Sequence[float], minimize: bool) -> bool:
    """Whether a trial is not among the best of its rung: asynchronous halving.

    As `optuna.pruners.SuccessiveHalvingPruner`, which stores its decisions and so
    might decide otherwise after a kill.

    Source: Li et al. 2020, arXiv:1810.05934, algorithm 2.

    Args:
        value: of the trial after this epoch.
        others: those of all other trials that came so far, after the same epoch.
        minimize: whether a lower value is better.
    """
    better = sum(other < value if minimize else other > value for other in others)
    stay = max((len(others) + 1) // REDUCTION, 1)
    return math.isnan(value) or better >= stay
