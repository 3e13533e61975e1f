"""Works on the trials of a search until none is left."""

import sys
from collections.abc import Mapping
from typing import Any

import jax
from optuna.trial import FrozenTrial

from src.config.params import Params
from src.data.prepared import Manifest
from src.errors import DivergedError, ParameterError, one_line
from src.experiments.search_devices import on_own_devices
from src.experiments.search_space import (
    chosen_values,
    space_size,
    with_values,
)
from src.experiments.search_study import MAX_STARTS, Outcome, SearchStudy
from src.experiments.search_trial import train_epochs
from src.experiments.sweep import format_value
from src.signals import Stopped
from src.training.early_stopping import build_early_stopping
from src.training.optimizer import with_unit_lr

# Compiled steps to keep. Trials that differ in `lr` alone share one.
STEPS_IN_MEMORY = 8


def work(
    study: SearchStudy,
    manifest: Manifest,
    total: int,
    fewer_devices: bool,
) -> None:
    """Takes trials of the study, one after the other; prints a line for each.

    Args:
        study: of the search; other processes may work on it too.
        manifest: of the data.
        total: how many trials the study shall have.
        fewer_devices: what `reserve_devices` returned.
    """
    compiled: set[Params] = set()
    while trial := study.claim(total):
        values = chosen_values(study.space, trial.params)
        outcome = run_trial(study, trial, values, manifest, fewer_devices, compiled)
        study.finish(trial, outcome)
        line = trial_line(trial, study, values, outcome, total)
        print(line, file=sys.stderr, flush=True)  # noqa: T201
        if len(compiled) == STEPS_IN_MEMORY:
            jax.clear_caches()
            compiled.clear()


def run_trial(
    study: SearchStudy,
    trial: FrozenTrial,
    values: Mapping[str, Any],
    manifest: Manifest,
    fewer_devices: bool,
    compiled: set[Params],
) -> Outcome:
    """Trains with these values, until the end or until the study stops the trial.

    Arguments as in `work`. What is wrong with the values is an outcome, not an error.
    Adds the parameters of the step to `compiled`.
    """
    if study.count_start(trial, 1) > MAX_STARTS:
        return Outcome(None, f"given up: its process was killed {MAX_STARTS} times")
    try:
        chosen = with_values(study.params, values)
        compiled.add(with_unit_lr(chosen))
        with on_own_devices(chosen, manifest.image_shape, fewer_devices):
            return train_trial(study, trial, chosen, manifest)
    except ParameterError as error:
        return Outcome(None, f"refused: {one_line(error)}")
    except DivergedError as error:
        return Outcome(None, f"diverged: {one_line(error)}")
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            return Outcome(None, f"out of memory: {one_line(error)}")
        raise
    except Stopped:
        study.count_start(trial, 0)  # its process was not killed
        raise


def train_trial(
    study: SearchStudy, trial: FrozenTrial, params: Params, manifest: Manifest
) -> Outcome:
    """Trains; the outcome is `monitor` at the epoch that `stages.train` would keep.

    Args:
        study: of the search.
        trial: of this process.
        params: of the trial.
        manifest: of the data.
    """
    stopping = build_early_stopping(params)
    for result in train_epochs(params, manifest):
        value = result.value(params.monitor)
        stopping.update(result.epoch, value)
        if study.report(trial, result.epoch, value, params.epochs):
            return Outcome(None, f"stopped after epoch {result.epoch}")
        if stopping.reason:
            break
    if stopping.best.value is None:
        return Outcome(None, f"no epoch has a {params.monitor}")
    return Outcome(stopping.best.value, f"best epoch {stopping.best.epoch}")


def trial_line(
    trial: FrozenTrial,
    study: SearchStudy,
    values: Mapping[str, Any],
    outcome: Outcome,
    total: int,
) -> str:
    """The line that is printed when a trial has ended."""
    count = min(total, space_size(study.space))
    parts = [f"trial {trial.number + 1:>{len(str(count))}}/{count}"]
    parts += [f"{key} {format_value(value)}" for key, value in values.items()]
    if outcome.value is not None:
        parts.append(f"{study.params.monitor} {outcome.value:.4f}")
    return "  ".join([*parts, outcome.note])
