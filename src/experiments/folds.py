"""The folds of cross-validation: which example is in which, and their results.

Folds are stratified by class and seeded. No group of examples is divided.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from src.data.examples import Examples, image_hashes
from src.errors import DataError, ParameterError, counted
from src.experiments.seeds import REPORTED, summarize
from src.storage.npz import pack_arrays

FOLD_STREAM = 5  # random stream of the seed
OF_FOLDS = *REPORTED, "calibration_error"


def divide(
    examples: Examples,
    groups: Sequence[str],
    count: int,
    seed: int,
    class_names: Sequence[str],
) -> np.ndarray:
    """The fold of each example, from 1: int32 `[n]`.

    Args:
        examples: all that are divided.
        groups: `[n]`, the name of each one's group; empty: it is alone.
        count: of folds.
        seed: of the run.
        class_names: in the order of the classes.

    Raises:
        ParameterError: a class has fewer groups than there are folds.
        DataError: the examples cannot be divided.
    """
    numbers = number_groups(groups, image_hashes(examples.images))
    check_folds(count, examples.labels, numbers, class_names)
    return assign_folds(examples.labels, numbers, count, seed)


def assign_folds(
    labels: np.ndarray, groups: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """The fold of each example, from 1: int32 `[n]`.

    Groups are taken from the largest to the smallest. Each goes to the fold that has
    the smallest shares of its classes; among equal ones, to the fold with the fewest
    examples. Groups of one are taken class by class. So without larger groups, folds
    differ by at most one example, and by at most one of each class.

    Args:
        labels: int32 `[n]`, class indices.
        groups: int `[n]`, numbers from 0 without a gap. No group is divided.
        count: of folds, which `check_folds` allows.
        seed: of the run.

    Returns:
        Each class that has examples has some in two folds or more.

    Raises:
        DataError: large groups put all examples of a class into one fold.
    """
    rng = np.random.default_rng((seed, FOLD_STREAM))
    by_group = np.argsort(groups, kind="stable")
    members = np.split(by_group, np.cumsum(np.bincount(groups))[:-1])
    first = np.array([labels[rows[0]] for rows in members])
    sizes = np.array([len(rows) for rows in members])
    order = np.lexsort((rng.permutation(len(members)), first, -sizes))
    weights = 1 / np.maximum(np.bincount(labels), 1) ** 2
    taken = np.zeros((count, len(weights)))  # examples by fold and class
    folds = np.zeros(len(labels), np.int32)
    for group in order.tolist():
        rows = members[group]
        classes, counts = np.unique(labels[rows], return_counts=True)
        shares = taken[:, classes] @ (weights[classes] * counts)
        fold = np.lexsort((taken.sum(1), shares))[0]
        taken[fold, classes] += counts
        folds[rows] = fold + 1
    alone = np.flatnonzero((taken > 0).sum(0) == 1)
    if len(alone):
        raise DataError(
            f"--folds {count}: expected each class in two folds or more, found all "
            f"examples of class number {alone[0]} in one, because its groups are "
            "large. Use another number of folds, or add examples of other groups."
        )
    return folds


def check_folds(
    count: int, labels: np.ndarray, groups: np.ndarray, class_names: Sequence[str]
) -> None:
    """Checks that every class can be divided among the folds.

    Args:
        count: of folds.
        labels: int32 `[n]`, class indices.
        groups: as for `assign_folds`.
        class_names: in the order of the classes.

    Raises:
        ParameterError: a class has fewer groups than there are folds.
        DataError: a class has only one group, or there is only one class.
    """
    pairs = np.unique(np.stack([labels, groups]), axis=1)
    present, groups_of = np.unique(pairs[0], return_counts=True)
    if len(present) < 2:
        raise DataError(
            "training split: expected examples of two classes or more, found only "
            f"{class_names[present[0]]}. Use more examples."
        )
    least, name = int(groups_of.min()), class_names[present[groups_of.argmin()]]
    found = f"{counted(least, 'group')} of examples of {name}"
    if least < 2:
        raise DataError(
            f"training split: expected two groups of examples of each class or more, "
            f"found {found} (equal images are a group). Add other images of it."
        )
    if least < count:
        raise ParameterError(
            f"--folds: expected at most {least}, because there are {found} (an example "
            f"without a group is one), found {count}. Use --folds {least}."
        )


def number_groups(names: Sequence[str], hashes: np.ndarray) -> np.ndarray:
    """The number of each example's group, from 0 without a gap: int32 `[n]`.

    Two examples are in one group if their groups have one name, or if their images are
    equal: the network that predicts an image must not have seen its copy. So is
    whatever such pairs connect.

    Args:
        names: `[n]`, the group of each example; an example with an empty one is alone.
        hashes: uint64 `[n]`, equal for equal images.
    """
    count = len(hashes)
    keys = [name or row for row, name in enumerate(names)]
    numbers: dict[str | int, int] = {}
    by_name = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    by_image = np.unique(hashes, return_inverse=True)[1] + len(numbers)
    size = int(by_image.max()) + 1
    # An example is an edge between its name and its image.
    edges = coo_matrix((np.ones(count), (by_name, by_image)), (size, size))
    component = connected_components(edges, directed=False)[1]
    return component[by_name].astype(np.int32)


def summarize_folds(scores: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Mean, standard deviation and interval of each score over the folds.

    The interval takes the folds for independent. Their networks share most training
    examples, so it is too narrow; no unbiased estimate of the variance exists. It is of
    networks that were trained on a part of the examples, with one seed.

    Source: Bengio and Grandvalet 2004, JMLR 5, pp. 1089-1105.

    Args:
        scores: of each fold, two or more; those in `OF_FOLDS` are used.
    """
    return {
        name: summarize([each[name] for each in scores])._asdict() for name in OF_FOLDS
    }


def pack_folds(
    probabilities: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    rows: np.ndarray,
    files: Sequence[str],
    class_names: Sequence[str],
    train_sha256: str,
) -> memoryview:
    """folds.npz: the out-of-fold probabilities of every training example.

    Args:
        probabilities: float32 `[n, classes]`.
        labels: int32 `[n]`.
        folds: int32 `[n]`, from 1.
        rows: `[n]`, of the examples in the training split.
        files: `[n]`, empty for arrays; without any, the array `files` is left out.
        class_names: in the order of the classes.
        train_sha256: `Manifest.digest` of the training split.
    """
    arrays = {
        "probabilities": probabilities,
        "labels": labels,
        "folds": folds,
        "rows": rows.astype(np.int32),
        "class_names": np.array(class_names),
        "train_sha256": np.array(train_sha256),
    }
    if any(files):
        arrays["files"] = np.array(files)
    return pack_arrays(arrays)
