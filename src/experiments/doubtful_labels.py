"""Labels that are probably wrong, by confident learning on out-of-fold probabilities.

Source: Northcutt et al. 2021, arXiv:1911.00068, as the library cleanlab implements it.
Importing it takes two seconds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from cleanlab.count import num_label_issues
from cleanlab.rank import get_label_quality_scores

from src.experiments.cross_validation import TrainingExamples
from src.reporting.doubtful_page import DoubtfulLabel
from src.sources.label_table import GIVEN
from src.storage.tables import csv_bytes

FILE_COLUMNS = ("file", "label", GIVEN, "probability", "quality")
ROW_COLUMNS = ("split", "row", *FILE_COLUMNS)


class JudgedLabels(NamedTuple):
    """What the out-of-fold probabilities tell of the labels."""

    likely: np.ndarray  # int64 [n], the most probable class
    quality: np.ndarray  # float [n] in [0, 1], cleanlab's score of the given label
    doubtful: np.ndarray  # int64 [m], examples whose `likely` differs, worst first
    estimate: int  # of how many labels are wrong


def judge_labels(labels: np.ndarray, probabilities: np.ndarray) -> JudgedLabels:
    """Ranks the labels with which the network disagrees.

    The score is the self-confidence: the probability of the given label.

    Args:
        labels: int32 `[n]`, of two classes or more.
        probabilities: float32 `[n, classes]`, predicted without the example.
    """
    likely = probabilities.argmax(1)
    quality = get_label_quality_scores(labels, probabilities, method="self_confidence")
    different = np.flatnonzero(likely != labels)
    return JudgedLabels(
        likely,
        quality,
        different[np.argsort(quality[different], kind="stable")],
        int(num_label_issues(labels, probabilities)),
    )


def describe_doubtful(
    judged: JudgedLabels,
    probabilities: np.ndarray,
    train: TrainingExamples,
    class_names: Sequence[str],
) -> list[DoubtfulLabel]:
    """The doubtful labels by name, worst first.

    Args:
        judged: of `judge_labels`.
        probabilities: float32 `[n, classes]`.
        train: the `n` examples.
        class_names: in the order of the classes.
    """
    return [
        DoubtfulLabel(
            row=int(train.rows[index]),
            file=train.origins[index].file,
            given=class_names[train.examples.labels[index]],
            likely=class_names[judged.likely[index]],
            probability=float(probabilities[index, judged.likely[index]]),
            quality=float(judged.quality[index]),
        )
        for index in judged.doubtful.tolist()
    ]


def doubtful_csv(doubtful: Sequence[DoubtfulLabel], from_files: bool) -> bytes:
    """The table that corrects the labels: a row per doubtful label, worst first.

    Args:
        doubtful: the labels.
        from_files: whether they are of files that prepare's `labels.csv` can name; if
            not, the rows name split and row too.
    """
    rows = [
        (each.file, each.likely, each.given, each.probability, each.quality)
        for each in doubtful
    ]
    if from_files:
        return csv_bytes(FILE_COLUMNS, rows)
    numbered = zip(doubtful, rows, strict=True)
    return csv_bytes(ROW_COLUMNS, (("train", each.row, *row) for each, row in numbered))
