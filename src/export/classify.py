"""From pictures to their most likely classes, for `python -m stages.predict`."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from src.data import pictures as picture_module
from src.data.pictures import (
    KINDS,
    PictureError,
    PicturePolicy,
    open_picture,
    read_pixels,
)
from src.errors import DataError, ParameterError, escape_unprintable
from src.evaluation.decision import Decision, decide
from src.export.fit_picture import Input, to_input
from src.export.load import Exported, InputEntry, UnlikeEntry
from src.export.shipped.picture_inputs import (
    READ_AT_ONCE,
    is_picture_name,
    list_pictures,
)
from src.export.shipped.runtimes import classify_all
from src.export.unlike import unlike_scores
from src.runtime.stage import print_error

STDIN = "-"
MAX_STDIN = 256 << 20  # bytes
MAX_REPORTED = 10  # of files that cannot be read


class Arguments(NamedTuple):
    """The arguments of the command."""

    pictures: list[str]
    model: Path | None
    json: bool
    explain: Path | None


class Parser(argparse.ArgumentParser):
    """Reports errors like a stage: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raises ParameterError."""
        raise ParameterError(f"{message}. See python -m stages.predict --help")


def parse_arguments(words: Sequence[str]) -> Arguments:
    """Parses the command line.

    Raises:
        ParameterError: an argument is missing or unknown.
    """
    parser = Parser(prog="predict", description="Classifies pictures.")
    parser.add_argument(
        "pictures",
        nargs="+",
        metavar="IMAGE",
        help="a picture of any kind and size, a folder of them, or - for stdin",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="a file in models/export; default: the one that starts fastest",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="FOLDER",
        help="write a heat map per picture, a PNG, into this folder",
    )
    arguments = Arguments(**vars(parser.parse_args(words)))
    if (found := arguments.pictures.count(STDIN)) > 1:
        parser.error(f"IMAGE: expected - at most once, got it {found} times")
    return arguments


class Found(NamedTuple):
    """What the names on the command line stand for."""

    pictures: list[tuple[str, Path | bytes]]  # name, and file or content
    passed_over: int  # files that are hidden, a system's or no pictures, by name
    wrong: list[str]  # a line for each name that stands for nothing


class Answered(NamedTuple):
    """Answers for pictures that could be read, and a line for each of the others."""

    answers: list[dict[str, Any]]  # as `--json` prints them
    wrong: list[str]
    images: np.ndarray  # uint8 [answers, height, width, channels], as the network saw


def find_pictures(names: Sequence[str]) -> Found:
    """Finds the pictures that names stand for.

    Args:
        names: files, folders of pictures at any depth, or "-". A file that is named
            alone is read whatever its name is.
    """
    pictures: list[tuple[str, Path | bytes]] = []
    passed_over, wrong = 0, []
    for name in names:
        path = Path(name)
        if name == STDIN:
            pictures.append(("standard input", sys.stdin.buffer.read(MAX_STDIN)))
        elif path.is_dir():
            files, others = list_pictures(picture_module, path)
            pictures += [(str(file), file) for file in files]
            if files:
                passed_over += others
            else:
                among = f"found none among its {others} files."
                wrong.append(f"{path}: expected {KINDS} files, {among}")
        elif (
            len(names) > 1
            and path.is_file()
            and not is_picture_name(picture_module, Path(path.name))
        ):
            passed_over += 1
        else:
            pictures.append((name, path))
    if not pictures and not wrong:
        wrong.append(f"expected {KINDS} files, found none among {len(names)} names.")
    return Found(pictures, passed_over, wrong)


def classify_pictures(
    exported: Exported, pictures: Sequence[tuple[str, Path | bytes]]
) -> Iterator[Answered]:
    """Classifies pictures, of which only `READ_AT_ONCE` are in memory at a time."""
    for start in range(0, len(pictures), READ_AT_ONCE):
        taken: list[tuple[str, Input]] = []
        wrong: list[str] = []
        for name, source in pictures[start : start + READ_AT_ONCE]:
            try:
                taken.append((name, read_picture(source, exported.manifest.input)))
            except PictureError as error:
                wrong.append(f"{name}: expected a {KINDS} picture, found {error}.")
        shape = exported.manifest.input.shape[1:]
        images = np.array([each.image for _, each in taken], np.uint8)
        images = images.reshape(-1, *shape)  # also of none
        answers = most_likely(exported, taken)
        if exported.centres is not None:
            scores = unlike_scores(exported.centres, images)
            for answer, score in zip(answers, scores.tolist(), strict=True):
                answer["unlike_training"] = round(score, 3)
        yield Answered(answers, wrong, images)


def read_picture(source: Path | bytes, expected: InputEntry) -> Input:
    """Reads a picture as prepare did; without a policy, adapted to the images.

    Raises:
        PictureError: the file is no picture, too large, or damaged.
    """
    if expected.pictures:
        policy = PicturePolicy.of(expected.pictures.model_dump())
        return Input(read_pixels(source, policy), [])
    with open_picture(source) as picture:
        return to_input(picture, expected.shape[1:], expected.background)


def unlike_warning(answer: dict[str, Any], entry: UnlikeEntry | None) -> str:
    """A sentence on a picture unlike the training pictures; empty for other pictures.

    Args:
        answer: of a picture.
        entry: of the manifest; None: of an export without scores.
    """
    score = answer.get("unlike_training")
    if entry is None or score is None or score <= entry.threshold:
        return ""
    return (
        f"{answer['picture']}: unlike the training pictures (score {score:.1f}; "
        f"{entry.quantile:.0%} of the validation pictures have at most "
        f"{entry.threshold:.1f}): the answer may mean nothing"
    )


def refuse_pictures(wrong: Sequence[str]) -> None:
    """Prints a line for each of the first names that gave no answer, then ends.

    Raises:
        DataError: there are any; its message is the last line.
    """
    lines = [f"{line} Name another." for line in wrong[:MAX_REPORTED]]
    if more := len(wrong) - len(lines):
        lines.append(f"{more} more files cannot be read. Name others.")
    for line in lines[:-1]:
        print_error("predict", line)
    if lines:
        raise DataError(lines[-1])


def most_likely(
    exported: Exported, inputs: Sequence[tuple[str, Input]]
) -> list[dict[str, Any]]:
    """The top-k classes of each picture, the answer first."""
    if not inputs:
        return []
    images = np.stack([taken.image for _, taken in inputs])
    rows, manifest = classify_all(exported.classify, images), exported.manifest
    names, top = manifest.class_names, manifest.model.parameters.top_k
    answers = decide(rows, Decision(manifest.threshold, manifest.reject_below))
    rejects = manifest.reject_below is not None
    return [
        {
            "picture": name,
            "classes": [
                {"class": names[index], "probability": round(float(row[index]), 6)}
                for index in in_order(row, label)[:top]
            ],
            "changes": taken.changes,
            **({"unsure": bool(unsure)} if rejects else {}),
        }
        for (name, taken), row, label, _, unsure in zip(
            inputs, rows, *answers, strict=True
        )
    ]


def in_order(row: np.ndarray, label: int) -> list[int]:
    """The classes by probability; the answer first, which a threshold may prefer."""
    ranked: list[int] = np.argsort(-row, kind="stable").tolist()
    ranked.remove(label)
    return [label, *ranked]


def answer_line(answer: dict[str, Any]) -> str:
    """One picture's classes as a line of text."""
    classes = (
        f"{each['class']} {each['probability']:.1%}" for each in answer["classes"]
    )
    end = " (unsure)" if answer.get("unsure") else ""
    return escape_unprintable(f"{answer['picture']}: {', '.join(classes)}{end}")
