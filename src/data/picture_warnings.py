"""Warnings about picture files: valid data that is probably a mistake."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from src.data.duplicates import (
    close_pairs,
    difference_hashes,
    equal_pairs,
    near_pairs,
)
from src.data.examples import Examples, Origin, SplitName, image_hashes
from src.data.lazy_images import Images

EXTREME_SIDE = 10  # times larger or smaller than the median
EXTREME_ASPECT = 5  # the longer side by the shorter one
NAMED_IN_WARNING = 3  # files or pairs in a warning
TWO_CLASSES = "one picture in two classes"
TWO_SPLITS = "one picture in two splits"
NEAR = "nearly equal pictures in two splits"
REMOVE_WRONG = "Remove the wrong one."
REMOVE_COPY = "Keep only one of them."
SCORES = (
    "The scores may be too high. The column group of a table keeps such pictures in "
    "one split."
)


def picture_warnings(
    splits: Mapping[SplitName, Examples],
    origins: Mapping[SplitName, Sequence[Origin]],
    class_names: Sequence[str],
) -> list[str]:
    """Warnings, a sentence each, about the pictures of all splits."""
    rows = [origin for name in splits for origin in origins[name]]
    files = [origin.file for origin in rows]
    placed = [f"{each.file} ({name})" for name in splits for each in origins[name]]
    images = [split.images for split in splits.values()]
    hashes = np.concatenate([image_hashes(each) for each in images])
    labels = np.concatenate([split.labels for split in splits.values()])
    sizes = [len(split.labels) for split in splits.values()]
    split_of = np.repeat(np.arange(len(sizes)), sizes)
    labelled = [
        f"{file} ({class_names[label]})"
        for file, label in zip(files, labels.tolist(), strict=True)
    ]
    in_two_classes = equal_pairs(hashes, labels)
    in_two_splits = equal_pairs(hashes, split_of)
    near = near_across_splits(images, hashes)
    # Equal pictures are counted exactly. Of nearly equal ones not all are compared.
    equal = [
        f"{int(np.isin(hashes, hashes[pairs]).sum())} files in all"
        for pairs in (in_two_classes, in_two_splits)
    ]
    least = f"at least {len(np.unique(near))} files"
    found = [
        f"{what}, {count}: {name_pairs(names, pairs)}. {advice}"
        for what, names, pairs, count, advice in (
            (TWO_CLASSES, labelled, in_two_classes, equal[0], REMOVE_WRONG),
            (TWO_SPLITS, placed, in_two_splits, equal[1], REMOVE_COPY),
            (NEAR, placed, near, least, SCORES),
        )
        if len(pairs)
    ]
    return [*found, *size_warnings(rows)]


def near_across_splits(images: Sequence[Images], hashes: np.ndarray) -> np.ndarray:
    """Pairs of nearly but not exactly equal pictures in two splits, int64 `[m, 2]`.

    Args:
        images: of each split.
        hashes: of `image_hashes`, for all splits.
    """
    perceptual = [difference_hashes(each) for each in images]
    starts = np.cumsum([0, *(len(each) for each in images)])
    found = []
    for one, other in combinations(range(len(images)), 2):
        offsets = starts[[one, other]]
        pairs = near_pairs(perceptual[one], perceptual[other])
        first, second = (pairs + offsets).T
        pairs = pairs[hashes[first] != hashes[second]]
        found.append(close_pairs(images[one], images[other], pairs) + offsets)
    return np.concatenate(found)


def size_warnings(origins: Sequence[Origin]) -> list[str]:
    """Warnings of pictures much larger, smaller or longer than most."""
    found = []
    sides = np.array([[each.width or 1, each.height or 1] for each in origins])
    longer, shorter = sides.max(1), sides.min(1)
    median = np.median(longer)
    for extreme, kind in (
        (longer > EXTREME_SIDE * median, f"over {EXTREME_SIDE} times the median size"),
        (longer < median / EXTREME_SIDE, f"under 1/{EXTREME_SIDE} of the median size"),
        (longer > EXTREME_ASPECT * shorter, f"over {EXTREME_ASPECT} to 1 in shape"),
    ):
        rows = np.flatnonzero(extreme)
        if len(rows):
            names = [
                f"{origins[row].file} ({sides[row, 0]} x {sides[row, 1]})"
                for row in rows[:NAMED_IN_WARNING]
            ]
            found.append(f"pictures {kind}: {', '.join(names)} ({len(rows)} in all).")
    return found


def name_pairs(names: Sequence[str], pairs: np.ndarray) -> str:
    """The names of the first pairs."""
    return ", ".join(
        f"{names[one]} and {names[other]}" for one, other in pairs[:NAMED_IN_WARNING]
    )
