"""What prepare prints about a data set."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from src.data.examples import (
    Examples,
    Origin,
    PassedOver,
    Source,
    SplitName,
    data_warnings,
)
from src.data.picture_warnings import picture_warnings
from src.errors import counted

NAMED_CLASSES = 20  # with more, only the smallest and the largest are named
NAMED_FILES = 10


def summary_lines(
    source: Source,
    splits: Mapping[SplitName, Examples],
    origins: Mapping[SplitName, Sequence[Origin]],
) -> list[str]:
    """The classes, what was passed over, how data was converted, and warnings.

    Args:
        source: the data set.
        splits: train, validation and test.
        origins: of the splits; empty for arrays.
    """
    warnings = [
        *source.warnings,
        *data_warnings(splits["train"], splits["test"], source.class_names),
        *unscored_classes(splits, source.class_names),
    ]
    if source.pictures is not None and origins:
        warnings += picture_warnings(splits, origins, source.class_names)
    lines = [describe_classes(splits, source.class_names)]
    if source.passed_over:
        lines.append(describe_passed_over(source.passed_over))
    lines += [f"note: {note}" for note in source.notes]
    return [*lines, *(f"warning: {warning}" for warning in warnings)]


def describe_classes(
    splits: Mapping[SplitName, Examples], class_names: Sequence[str]
) -> str:
    """The number of examples per class and split, in one line."""
    counts = np.stack(
        [
            np.bincount(split.labels, minlength=len(class_names))
            for split in splits.values()
        ]
    )
    if len(class_names) <= NAMED_CLASSES:
        classes = ", ".join(
            f"{name} ({'/'.join(map(str, column))})"
            for name, column in zip(class_names, counts.T.tolist(), strict=True)
        )
        return f"{'/'.join(splits)} images: {classes}"
    total = counts.sum(0)
    least, most = int(total.argmin()), int(total.argmax())
    return (
        f"{total[least]} ({class_names[least]}) to {total[most]} "
        f"({class_names[most]}) images per class"
    )


def unscored_classes(
    splits: Mapping[SplitName, Examples], class_names: Sequence[str]
) -> list[str]:
    """A warning if a class of train has no validation or no test example."""
    trained = np.unique(splits["train"].labels)
    found = []
    for split in ("validation", "test"):
        missing = np.setdiff1d(trained, splits[split].labels)
        if len(missing):
            names = ", ".join(class_names[number] for number in missing[:NAMED_FILES])
            more = ", ..." if len(missing) > NAMED_FILES else ""
            found.append(f"no {split} example of {names}{more}")
    if not found:
        return []
    return [f"{', '.join(found)}: not scored there. Add images or groups of them."]


def describe_passed_over(files: Sequence[PassedOver]) -> str:
    """How many files were not used, and why, in one line."""
    reasons = Counter(each.kind for each in files)
    listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(5))
    more = ", ..." if len(reasons) > 5 else ""
    return f"{counted(len(files), 'file')} passed over: {listed}{more}"


def file_lines(files: Sequence[PassedOver]) -> list[str]:
    """A line for each of the first ten files, and how many more there are."""
    lines = [f"{each.file}: {each.reason}" for each in files[:NAMED_FILES]]
    if len(files) > NAMED_FILES:
        lines.append(f"and {len(files) - NAMED_FILES} more")
    return lines
