"""Which examples go to which split: stratified by class, seeded, groups together."""

from collections.abc import Mapping, Sequence

import numpy as np

from src.data.examples import Origin, Source, SplitName
from src.errors import DataError

TEST_FRACTION = 0.2  # of the training examples, if the source has no test split
TEST_STREAM, VALIDATION_STREAM = 1, 2  # random streams of the seed


def split_origins(
    source: Source, fraction: float, seed: int
) -> dict[SplitName, Sequence[Origin]]:
    """The origins of the splits of `split_source`; empty for a source of arrays."""
    if source.origins is None:
        return {}
    found: dict[SplitName, Sequence[Origin]] = {}
    for name, (given, rows) in split_rows(source, fraction, seed).items():
        origins = source.origins[given]
        found[name] = (
            origins if rows is None else [origins[row] for row in rows.tolist()]
        )
    return found


def split_rows(
    source: Source, fraction: float, seed: int
) -> dict[SplitName, tuple[SplitName, np.ndarray | None]]:
    """Which rows of the source each split has.

    Args:
        source: the data set.
        fraction: of the training examples for a missing validation split, in (0, 1).
        seed: decides which examples are split off.

    Returns:
        The source's split that each split comes from, and the rows; None: all.
    """
    rows: np.ndarray | None = None
    of_test: np.ndarray | None = None
    of_validation: np.ndarray | None = None
    if source.test is None:
        rows, of_test = divide_rows(source, rows, TEST_FRACTION, (seed, TEST_STREAM))
    if source.validation is None:
        stream = seed, VALIDATION_STREAM
        rows, of_validation = divide_rows(source, rows, fraction, stream)
    return {
        "train": ("train", rows),
        "validation": (
            ("validation", None) if of_validation is None else ("train", of_validation)
        ),
        "test": ("test", None) if of_test is None else ("train", of_test),
    }


def divide_rows(
    source: Source, rows: np.ndarray | None, fraction: float, seed: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Divides the training examples at `rows` in two; no group is divided.

    Args:
        source: the data set.
        rows: indices of training examples; None: all.
        fraction: the share of the second part, in (0, 1).
        seed: decides which examples go to the second part.

    Returns:
        The rows of the first and of the second part, each rising.
    """
    if rows is None:
        rows = np.arange(len(source.train.labels))
    given = source.given_labels
    labels = (source.train.labels if given is None else given)[rows]
    origins = source.origins["train"] if source.origins else ()
    if any(origin.group for origin in origins):
        groups = [origins[row].group for row in rows.tolist()]
        first, second = grouped_split(labels, groups, fraction, seed)
    else:
        first, second = stratified_split(labels, fraction, seed)
    return rows[first], rows[second]


def stratified_split(
    labels: np.ndarray, fraction: float, seed: tuple[int, ...]
) -> list[np.ndarray]:
    """Divides examples in two, with each class in the same proportion.

    Args:
        labels: int32 `[n]`, class indices.
        fraction: the share of the second part, in (0, 1).
        seed: decides which examples go to the second part.

    Returns:
        The indices of the first and of the second part, each rising. A class of `n`
        examples gives `round(n * fraction)` of them to the second part, but at least 1
        and at most `n - 1`.
    """
    rng = np.random.default_rng(seed)
    in_second = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        size = min(max(round(len(members) * fraction), 1), len(members) - 1)
        in_second[members[:size]] = True
    return [np.flatnonzero(~in_second), np.flatnonzero(in_second)]


def grouped_split(
    labels: np.ndarray, groups: Sequence[str], fraction: float, seed: tuple[int, ...]
) -> list[np.ndarray]:
    """Divides examples in two without dividing a group, stratified by class.

    Groups are taken from the largest to the smallest, those of one size in random
    order. A group goes to the second part if that brings the classes nearer to their
    share, and if no class loses its last example to the second part. A class of which
    none did gives its smallest group then.

    Args:
        labels: int32 `[n]`, class indices.
        groups: the group of each example; an example with an empty one is alone.
        fraction: the share of the second part, in (0, 1).
        seed: decides which groups go to the second part.

    Returns:
        The indices of the first and of the second part, each rising.
    """
    rng = np.random.default_rng(seed)
    members = rows_of_groups(groups)
    order = rng.permutation(len(members))
    sizes = np.array([len(rows) for rows in members])
    totals = np.bincount(labels)
    # As `stratified_split` counts them, so that groups of one differ from it in rows,
    # not in counts.
    targets = np.clip(np.round(totals * fraction), 1, np.maximum(totals - 1, 0))
    taken = np.zeros(len(totals))
    in_second = np.zeros(len(labels), bool)
    for key, is_last in ((-sizes, False), (sizes, True)):
        if is_last and np.all(taken[totals > 1]):
            break
        for number in order[np.argsort(key[order], kind="stable")]:
            rows = members[number]
            classes, counts = np.unique(labels[rows], return_counts=True)
            before = (targets - taken)[classes]
            weights = 1 / totals[classes] ** 2
            gain = ((before**2 - (before - counts) ** 2) * weights).sum()
            wanted = np.any(taken[classes] == 0) if is_last else gain > 0
            if wanted and np.all(taken[classes] + counts < totals[classes]):
                taken[classes] += counts
                in_second[rows] = True
    return [np.flatnonzero(~in_second), np.flatnonzero(in_second)]


def rows_of_groups(groups: Sequence[str]) -> list[np.ndarray]:
    """The rows of each group, in the order of their first rows."""
    found: dict[str | int, list[int]] = {}
    for row, group in enumerate(groups):
        found.setdefault(group or row, []).append(row)
    return [np.array(rows) for rows in found.values()]


def check_groups(name: str, origins: Mapping[str, Sequence[Origin]]) -> None:
    """Raises DataError if a group is in two splits."""
    first: dict[str, tuple[str, Origin]] = {}
    for split, rows in origins.items():
        for origin in rows:
            other, example = first.setdefault(origin.group, (split, origin))
            if origin.group and other != split:
                raise DataError(
                    f"{name}: group '{origin.group}': expected all its pictures in one "
                    f"split, found {example.file} in {other} and {origin.file} in "
                    f"{split}. Correct the column split or group."
                )
