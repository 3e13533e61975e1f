"""From pictures to their most likely classes, for `python -m stages.predict`."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from src.data.pictures import SUFFIXES, open_image
from src.errors import DataError, ParameterError, escape_unprintable
from src.export.fit_picture import Input, to_input
from src.export.load import Exported, ExportManifest
from src.export.shipped.run import classify_all

STDIN = "-"
MAX_STDIN = 256 << 20  # bytes


class Arguments(NamedTuple):
    """The arguments of the command."""

    pictures: list[str]
    model: Path | None
    json: bool


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
        help="a PNG or JPEG file of any size, a folder of them, or - for stdin",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="a file in models/export; default: the one that starts fastest",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = Arguments(**vars(parser.parse_args(words)))
    if (found := arguments.pictures.count(STDIN)) > 1:
        parser.error(f"IMAGE: expected - at most once, got it {found} times")
    return arguments


def read_inputs(
    names: Sequence[str], manifest: ExportManifest
) -> list[tuple[str, Input]]:
    """Reads pictures and converts them to inputs of the network.

    Args:
        names: files, folders that contain PNG or JPEG files at any depth, or "-".
        manifest: of the network.

    Returns:
        The name and the input of each picture.

    Raises:
        DataError: a file is not a picture, or a folder contains none.
    """
    shape, background = manifest.input.shape[1:], manifest.input.background
    inputs = []
    for name, source in find_pictures(names):
        with open_image(source, name, repair="Name another.") as picture:
            inputs.append((name, to_input(picture, shape, background)))
    return inputs


def find_pictures(names: Sequence[str]) -> Iterator[tuple[str, Path | BytesIO]]:
    """Yields the name and the path or content of each picture."""
    for name in names:
        path = Path(name)
        if name == STDIN:
            yield "standard input", BytesIO(sys.stdin.buffer.read(MAX_STDIN))
        elif path.is_dir():
            found = sorted(filter(is_picture, path.rglob("*")))
            if not found:
                raise DataError(
                    f"{path}: expected PNG or JPEG files in the folder, found none. "
                    "Name another."
                )
            yield from ((str(each), each) for each in found)
        else:
            yield name, path


def is_picture(path: Path) -> bool:
    """Whether a file in a folder is a picture, by its suffix, and not hidden."""
    named = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    return named and path.is_file()


def classify_pictures(
    exported: Exported, inputs: Sequence[tuple[str, Input]]
) -> list[dict[str, Any]]:
    """The top-k classes of each picture, as `--json` prints them."""
    images = np.stack([taken.image for _, taken in inputs])
    rows = classify_all(exported.classify, images)
    names, top = exported.manifest.class_names, exported.manifest.model.parameters.top_k
    return [
        {
            "picture": name,
            "classes": [
                {"class": names[index], "probability": round(float(row[index]), 6)}
                for index in np.argsort(-row, kind="stable")[:top]
            ],
            "changes": taken.changes,
        }
        for (name, taken), row in zip(inputs, rows, strict=True)
    ]


def answer_line(answer: dict[str, Any]) -> str:
    """One picture's classes as a line of text."""
    classes = (
        f"{each['class']} {each['probability']:.1%}" for each in answer["classes"]
    )
    return escape_unprintable(f"{answer['picture']}: {', '.join(classes)}")
