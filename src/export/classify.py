"""Pictures in, the most likely classes out: what `python -m stages.predict` does."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from src.errors import DataError, ParameterError, escape_unprintable
from src.export.fit_picture import Input, to_input
from src.export.load import Exported, ExportManifest
from src.export.shipped.run import classify_all
from src.sources.image_file import SUFFIXES, open_image

STDIN = "-"
LIMIT = 256 << 20  # bytes of a picture


class Asked(NamedTuple):
    """The command's arguments."""

    pictures: list[str]
    model: Path | None
    json: bool


class Parser(argparse.ArgumentParser):
    """Says what is wrong as the stages do: in one line, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raises ParameterError."""
        raise ParameterError(f"{message}. See python -m stages.predict --help")


def parse(words: Sequence[str]) -> Asked:
    """The arguments.

    Raises:
        ParameterError: one is missing or unknown.
    """
    parser = Parser(prog="predict", description="Says what is on pictures.")
    parser.add_argument(
        "pictures",
        nargs="+",
        metavar="IMAGE",
        help="a PNG or JPEG of any size, a folder of them, or - for standard input",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="a file in models/export; without it, the one that starts soonest",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    asked = Asked(**vars(parser.parse_args(words)))
    if asked.pictures.count(STDIN) > 1:
        parser.error("IMAGE: expected - once, got it again: it can be read only once")
    return asked


def read_inputs(
    names: Sequence[str], manifest: ExportManifest
) -> list[tuple[str, Input]]:
    """Every picture's name, and the picture as the network takes it.

    Args:
        names: files, folders with PNG and JPEG files in them, at any depth, or "-".
        manifest: of the network.

    Raises:
        DataError: something is no picture, or a folder has none.
    """
    shape, background = manifest.input.shape[1:], manifest.input.background
    inputs = []
    for name, source in sources(names):
        with open_image(source, name, repair="Name another.") as picture:
            inputs.append((name, to_input(picture, shape, background)))
    return inputs


def sources(names: Sequence[str]) -> Iterator[tuple[str, Path | BytesIO]]:
    """Names and places of the pictures."""
    for name in names:
        path = Path(name)
        if name == STDIN:
            yield "standard input", BytesIO(sys.stdin.buffer.read(LIMIT))
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
    """Whether a file in a folder is meant: by its name, and not a hidden one."""
    usual = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    return usual and path.is_file()


def answers(
    exported: Exported, inputs: Sequence[tuple[str, Input]]
) -> list[dict[str, Any]]:
    """For each picture its most likely classes, with their probabilities."""
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


def line(said: dict[str, Any]) -> str:
    """An answer for a person."""
    shares = (f"{each['class']} {each['probability']:.1%}" for each in said["classes"])
    return escape_unprintable(f"{said['picture']}: {', '.join(shares)}")
