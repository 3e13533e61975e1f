"""Compares DVC experiments: ranks them and finds the parameters that differ.

The scores are those of train and validation: nothing is chosen by the test split. For
an experiment that failed, is queued or is running, DVC reports the metrics of the
commit it started from. So only finished experiments have scores here.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.errors import DataError, ParameterError

LOG_SCALE_RATIO = 20  # an axis is logarithmic if largest / smallest exceeds this
FINISHED = "success"  # the state's name in DVC's queue


@dataclass(frozen=True)
class Experiment:
    """A DVC experiment."""

    name: str
    params: Mapping[str, Any]
    scores: Mapping[str, float]  # by dotted name, such as `test.accuracy`
    state: str  # success, failed, queued or running


@dataclass(frozen=True)
class Dimension:
    """A parameter or score of all experiments: a vertical axis of the plot."""

    name: str
    log: bool
    positions: list[float]  # per experiment: its number, or its category's index
    categories: list[str]  # empty if all values are numbers


def read_experiments(shown: str) -> list[Experiment]:
    """Returns the experiments of the current commit.

    Args:
        shown: the output of `dvc exp show --json`.
    """
    groups = [
        group for commit in json.loads(shown) for group in commit["experiments"] or []
    ]
    return [read_experiment(group["revs"][0], group["executor"]) for group in groups]


def read_experiment(
    entry: Mapping[str, Any], executor: Mapping[str, Any] | None
) -> Experiment:
    """Parses one experiment; `executor` is None if it ran in the workspace."""
    state = executor["state"] if executor else FINISHED
    if entry["error"]:
        state = "failed"
    data = entry["data"] or {}
    scores: dict[str, float] = {}
    if state == FINISHED:
        for content in file_contents(of_training(data.get("metrics"))):
            scores |= flatten(content)
    params = {
        key: value
        for content in file_contents(data.get("params"))
        for key, value in content.items()
    }
    return Experiment(entry["name"] or entry["rev"][:7], params, scores, state)


def of_training(files: Mapping[str, Any] | None) -> dict[str, Any]:
    """The metrics files of the train stage, which never sees the test split."""
    return {
        name: file
        for name, file in (files or {}).items()
        if name.rpartition("/")[2] == "train.json"
    }


def file_contents(files: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The contents of the files that DVC could read."""
    return [file["data"] for file in (files or {}).values() if "data" in file]


def flatten(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested numbers by dotted name."""
    flat: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            flat[f"{prefix}{key}"] = value
    return flat


def ranked(experiments: Iterable[Experiment], by: str) -> list[Experiment]:
    """Sorts best first: a loss ascending, any other score descending.

    Experiments without the score come last.

    Raises:
        DataError: fewer than two experiments have finished.
        ParameterError: no experiment has the score `by`.
    """
    listed = list(experiments)
    finished = [each for each in listed if each.state == FINISHED]
    if len(finished) < 2:
        raise DataError(
            "experiments of this commit: expected two or more finished ones, "
            f"found {len(finished)} of {len(listed)}. Run some: dvc exp run --queue "
            "-S 'lr=1e-3,3e-3' train, then dvc queue start."
        )
    names = set().union(*(each.scores for each in finished))
    if by not in names:
        known = sorted(name for name in names if name.count(".") == 1)
        last = by.rpartition(".")[2]
        near = [name for name in known if name.endswith(f".{last}")]
        raise ParameterError(
            f"--by: expected a score on train or validation, found {by!r}. "
            f"Choose one of {', '.join(near or known)}."
        )
    sign = 1 if by.endswith("loss") else -1
    return sorted(
        listed, key=lambda each: (by not in each.scores, sign * each.scores.get(by, 0))
    )


def varying(experiments: Sequence[Experiment]) -> list[str]:
    """The parameters whose values differ, in the order of params.yaml."""
    names = dict.fromkeys(name for each in experiments for name in each.params)
    return [
        name
        for name in names
        if len({format_value(each.params.get(name)) for each in experiments}) > 1
    ]


def build_dimension(name: str, values: Sequence[Any]) -> Dimension:
    """Places numbers by size; if any value is not a number, all by category."""
    numbers = [float(value) for value in values if is_number(value)]
    if len(numbers) < len(values):
        labels = [format_value(value) for value in values]
        categories = sorted(set(labels), key=numbers_first)
        positions: list[float] = [categories.index(label) for label in labels]
        return Dimension(name, False, positions, categories)
    log = min(numbers) > 0 and max(numbers) > LOG_SCALE_RATIO * min(numbers)
    return Dimension(name, log, numbers, [])


def is_number(value: object) -> bool:
    """Whether a value is a finite number; a boolean is not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def format_value(value: object) -> str:
    """Formats a parameter's value for the table and the plot."""
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        return "+".join(map(format_value, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def numbers_first(text: str) -> tuple[bool, float, str]:
    """Sort key: numbers by size, then other text by letters."""
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def sweep_table(experiments: Sequence[Experiment], by: str) -> str:
    """A row per experiment, in the given order: name, varying parameters, score."""
    names = varying(experiments)
    rows = [["experiment", *names, by]]
    for each in experiments:
        values = [format_value(each.params.get(key)) for key in names]
        score = f"{each.scores[by]:.6g}" if by in each.scores else each.state
        rows.append([each.name, *values, score])
    return aligned(rows, right=range(1, len(rows[0])))


def aligned(rows: Sequence[Sequence[str]], right: Collection[int]) -> str:
    """A table as text.

    Args:
        rows: with equally many cells.
        right: the columns that are aligned to the right; the others are to the left.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
