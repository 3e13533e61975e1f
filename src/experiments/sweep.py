"""Experiments side by side: what differs among them, and which did best.

What DVC says of an experiment that failed, waits or still runs are the numbers of the
commit it began from: its own do not exist yet. So only finished ones have scores.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.errors import DataError, ParameterError

SPAN = 20  # a largest number beyond this many times the smallest: a log scale
FINISHED = "success"  # as DVC's queue calls it


@dataclass(frozen=True)
class Experiment:
    """One experiment, as DVC knows it."""

    name: str
    params: Mapping[str, Any]
    scores: Mapping[str, float]  # by dotted name, as in `test.accuracy`
    state: str  # success, failed, queued or running


@dataclass(frozen=True)
class Axis:
    """A vertical axis of the picture, with each experiment's place on it."""

    name: str
    log: bool
    places: list[float]  # an experiment each: its number, or its word's rank
    words: list[str]  # the names of ranks 0, 1, ...; none where there are numbers


def read_experiments(shown: str) -> list[Experiment]:
    """The experiments of the present commit.

    Args:
        shown: what `dvc exp show --json` prints.
    """
    groups = [
        group for commit in json.loads(shown) for group in commit["experiments"] or []
    ]
    return [read_experiment(group["revs"][0], group["executor"]) for group in groups]


def read_experiment(
    entry: Mapping[str, Any], executor: Mapping[str, Any] | None
) -> Experiment:
    """One of them; without an executor it was run in the workspace."""
    state = executor["state"] if executor else FINISHED
    if entry["error"]:
        state = "failed"
    data = entry["data"] or {}
    scores: dict[str, float] = {}
    if state == FINISHED:
        for content in found_in(data.get("metrics")):
            scores |= flattened(content)
    params = {
        key: value
        for content in found_in(data.get("params"))
        for key, value in content.items()
    }
    return Experiment(entry["name"] or entry["rev"][:7], params, scores, state)


def found_in(files: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The contents of those files that DVC could read."""
    return [file["data"] for file in (files or {}).values() if "data" in file]


def flattened(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested numbers by dotted name."""
    flat: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            flat[f"{prefix}{key}"] = value
    return flat


def ranked(experiments: Iterable[Experiment], by: str) -> list[Experiment]:
    """Best first: the least loss, the most of anything else; then those without it.

    Raises:
        DataError: fewer than two have finished.
        ParameterError: none of them has such a score.
    """
    listed = list(experiments)
    finished = [each for each in listed if each.state == FINISHED]
    if len(finished) < 2:
        raise DataError(
            f"experiments of this commit: expected two or more that have finished, "
            f"found {len(finished)} of {len(listed)}. Run some: dvc exp run --queue "
            "-S 'lr=1e-3,3e-3', then dvc queue start."
        )
    names = set().union(*(each.scores for each in finished))
    if by not in names:
        known = sorted(name for name in names if name.count(".") == 1)
        last = by.rpartition(".")[2]
        near = [name for name in known if name.endswith(f".{last}")]
        raise ParameterError(
            f"--by: expected a score of the experiments, got {by!r}. "
            f"There are {', '.join(near or known)}."
        )
    sign = 1 if by.endswith("loss") else -1
    return sorted(
        listed, key=lambda each: (by not in each.scores, sign * each.scores.get(by, 0))
    )


def varying(experiments: Sequence[Experiment]) -> list[str]:
    """The parameters that are not the same in all, in the order of params.yaml."""
    names = dict.fromkeys(name for each in experiments for name in each.params)
    return [
        name
        for name in names
        if len({word(each.params.get(name)) for each in experiments}) > 1
    ]


def axis(name: str, values: Sequence[Any]) -> Axis:
    """Where the values of a parameter stand: numbers by size, anything else by name."""
    numbers = [float(value) for value in values if is_number(value)]
    if len(numbers) < len(values):
        words = sorted({word(value) for value in values}, key=natural)
        return Axis(name, False, [words.index(word(value)) for value in values], words)
    log = min(numbers) > 0 and max(numbers) > SPAN * min(numbers)
    return Axis(name, log, numbers, [])


def is_number(value: object) -> bool:
    """Whether a value can stand on a scale: true and false are words."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def word(value: object) -> str:
    """A value as the table shows it."""
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        return "+".join(map(word, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def natural(text: str) -> tuple[bool, float, str]:
    """Sorts numbers by size, before words."""
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def table(experiments: Sequence[Experiment], by: str) -> str:
    """A row per experiment, in this order: its name, what varies, its score."""
    names = varying(experiments)
    rows = [["experiment", *names, by]]
    for each in experiments:
        score = f"{each.scores[by]:.6g}" if by in each.scores else each.state
        rows.append([each.name, *(word(each.params.get(key)) for key in names), score])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        padded = [cell.rjust(w) for cell, w in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]))
    return "\n".join(lines)
