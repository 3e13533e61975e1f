"""The results of a search: a table and a picture."""

import warnings
from collections.abc import Mapping, Sequence

import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial

from src.errors import ParameterError, counted
from src.experiments.search_rules import memory_study
from src.experiments.search_space import Space, chosen_values
from src.experiments.search_study import NOTE
from src.experiments.sweep import Experiment, aligned, format_value, varying
from src.experiments.sweep_plot import AXIS_DISTANCE, draw_experiments
from src.reporting.plots import png_bytes


def ranked_trials(trials: Sequence[FrozenTrial], minimize: bool) -> list[FrozenTrial]:
    """Best first: finished trials, then stopped ones by epochs, then those without any.

    Trials that are still running are left out.
    """
    sign = 1 if minimize else -1

    def key(trial: FrozenTrial) -> tuple[bool, int, float, int]:
        complete = trial.state == TrialState.COMPLETE
        epochs = 0 if complete else trial.last_step or 0
        value = sign * trial.value if trial.value is not None else 0.0
        return not complete, -epochs, value, trial.number

    return sorted((trial for trial in trials if trial.state.is_finished()), key=key)


def finished_trials(ranked: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that have a score, in the given order.

    Raises:
        ParameterError: there is none.
    """
    finished = [trial for trial in ranked if trial.state == TrialState.COMPLETE]
    if not finished:
        reason = ranked[0].user_attrs.get(NOTE) if ranked else "none has ended"
        count = counted(len(ranked), "trial")
        raise ParameterError(
            f"expected a trial with a score, found none in {count}; the first: "
            f"{reason}. Choose other values, and --name NAME."
        )
    return finished


def search_table(trials: Sequence[FrozenTrial], space: Space, monitor: str) -> str:
    """A row per trial, in the given order: number, parameters, score, how it ended."""
    rows = [["trial", *space, monitor, ""]]
    for trial in trials:
        values = chosen_values(space, trial.params).values()
        complete = trial.state == TrialState.COMPLETE
        score = f"{trial.value:.6g}" if complete else ""
        note = str(trial.user_attrs.get(NOTE, ""))
        rows.append([str(trial.number + 1), *map(format_value, values), score, note])
    return aligned(rows, right=range(1, len(rows[0]) - 1))


def search_picture(trials: Sequence[FrozenTrial], space: Space, monitor: str) -> bytes:
    """Finished trials in parallel coordinates, and the importances: a PNG file.

    Args:
        trials: best first; one or more are finished.
        space: of the search.
        monitor: the score's name.
    """
    experiments = [
        Experiment(
            f"trial {trial.number + 1}",
            chosen_values(space, trial.params),
            {monitor: trial.value or 0.0},
            "success",
        )
        for trial in finished_trials(trials)
    ]
    width = 1.6 + AXIS_DISTANCE * len(varying(experiments))
    figure = Figure(figsize=(width + 3.2, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[width, 3.2])
    draw_experiments(left, experiments, monitor)
    draw_importances(right, importances(trials))
    return png_bytes(figure)


def draw_importances(axes: Axes, found: Mapping[str, float]) -> None:
    """A bar per parameter, the largest on top."""
    names = list(found)[::-1]
    bars = axes.barh(range(len(names)), [found[name] for name in names], color="0.55")
    axes.set_yticks(range(len(names)), names)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set(xlim=(0, 1.15), xticks=[])
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title("importance", fontsize=9)


def importances(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """How much each parameter matters for being among the best quarter; the sum is 1.

    Every trial with an epoch counts by its rank: few trials finish.

    Source: Watanabe, Bansal and Hutter 2023, arXiv:2304.10255.

    Args:
        trials: best first.

    Returns:
        Shares by parameter, the largest first; empty for fewer than two trials.
    """
    placed = [trial for trial in trials if trial.intermediate_values]
    if len(placed) < 2:
        return {}
    varied = {
        key: domain
        for key, domain in placed[0].distributions.items()
        if not domain.single()
    }
    ranks = [
        create_trial(
            value=place,
            params={key: trial.params[key] for key in varied},
            distributions=varied,
        )
        for place, trial in enumerate(placed)
    ]
    study = memory_study(ranks, sampler=None, minimize=True)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=0.25)
    with warnings.catch_warnings(action="ignore"):  # about few trials
        return optuna.importance.get_param_importances(study, evaluator=evaluator)
