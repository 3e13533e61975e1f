"""Runs an exported network and measures its latency on this machine.

    python run.py model.onnx photo.jpg folder   # one line per picture
    python run.py model.onnx IMAGES             # one line per image
    python run.py model.onnx IMAGES --latency   # milliseconds and memory

The first argument is any exported file of this folder. IMAGES is a .npy file of uint8
`[n, height, width, channels]`, or an .npz file with such `images`. Requirements: NumPy,
the runtime of the format, and manifest.json in the folder of the exported file; for
pictures also Pillow, and pictures.py in the folder of run.py.
From Python:

    from run import load
    probabilities = load("model.onnx")(images)
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from src.evaluation.decision import Decision, decide
from src.export.shipped.latency import measure_latency, measured_batches
from src.export.shipped.picture_inputs import read_all
from src.export.shipped.runtimes import (
    UnusableError,
    classify_all,
    load,
    load_module,
)

ARRAYS = (".npy", ".npz")  # the other files are pictures
MAX_LINES = 10  # of pictures that cannot be read


class Inputs(NamedTuple):
    """What the command classifies, or a part of it."""

    images: np.ndarray  # uint8 [n, height, width, channels]
    names: Sequence[str] = ()  # of pictures, in order; an array has none
    wrong: Sequence[str] = ()  # a line for each picture that cannot be read


def check_file(path: Path, expected: str = "a file", advice: str = "") -> None:
    """Raises UnusableError if there is nothing at a path."""
    if not path.exists():
        raise UnusableError(f"{path}: expected {expected}, found none{advice}")


def load_images(path: Path, expected: list[int]) -> np.ndarray:
    """Loads a .npy file, or `images` of an .npz file.

    Raises:
        UnusableError: the file has no images, or images of another shape or type.
    """
    check_file(path)
    try:
        content = np.load(path, allow_pickle=False)
        images = content if isinstance(content, np.ndarray) else content["images"]
    except (ValueError, KeyError, OSError):
        raise UnusableError(
            f"{path}: expected a .npy, or an .npz with images"
        ) from None
    usable = images.dtype == np.uint8 and images.ndim == 4 and len(images) > 0
    if not usable or list(images.shape[1:]) != expected:
        raise UnusableError(
            f"{path}: expected uint8 [n, {', '.join(map(str, expected))}], n >= 1, "
            f"found {images.dtype} {list(images.shape)}"
        )
    return images


def load_inputs(files: list[Path], expected: dict[str, Any]) -> Iterator[Inputs]:
    """Loads one file of images, or pictures and folders of them part by part.

    Args:
        files: as the command got them.
        expected: `input` of the manifest.

    Raises:
        UnusableError: there are no images, or not for this network.
    """
    if any(path.suffix in ARRAYS for path in files):
        if len(files) > 1:
            raise UnusableError(f"expected one .npy or .npz, found {len(files)} files")
        yield Inputs(load_images(files[0], expected["shape"][1:]))
        return
    path = Path(__file__).with_name("pictures.py")
    check_file(path, "this file", ": copy it here")
    for taken in read_all(load_module(path), files, expected):
        images = np.array(taken.images, np.uint8)  # none: all files were wrong
        yield Inputs(images, taken.names, taken.wrong)


def refuse(wrong: Sequence[str]) -> None:
    """Prints the first lines; the last is the message of the error.

    Raises:
        UnusableError: there is a line.
    """
    lines = list(wrong[:MAX_LINES])
    if len(wrong) > MAX_LINES:
        lines.append(f"{len(wrong) - MAX_LINES} more files cannot be read")
    for line in lines[:-1]:
        warn(line)
    if lines:
        raise UnusableError(lines[-1])


def execute(options: argparse.Namespace) -> None:
    """Runs the command with its parsed options."""
    path = options.file.parent / "manifest.json"
    check_file(options.file)
    check_file(path, "the manifest of the network", ": copy it here")
    manifest = json.loads(path.read_text("utf-8"))
    parts = load_inputs(options.images, manifest["input"])
    first = next(parts)
    classify = load(options.file)
    rows: list[np.ndarray] = []
    names: list[str] = []
    wrong: list[str] = []
    for part in chain([first], parts):
        wrong += part.wrong
        if len(part.images) and (options.output or not options.latency):
            found = classify_all(classify, part.images)
            if options.output:
                rows, names = [*rows, found], [*names, *part.names]
            else:
                print_best(found, part.names, manifest)
    if rows:
        save_rows(options.output, np.concatenate(rows), names)
    if options.latency and len(first.images):
        if options.wait:
            for batch in measured_batches(first.images):
                classify(batch)  # compiles
            print("ready", flush=True)
            sys.stdin.read()
        print(json.dumps(measure_latency(classify, first.images)))
    refuse(wrong)


def print_best(
    rows: np.ndarray, pictures: Sequence[str], manifest: dict[str, Any]
) -> None:
    """Prints the answer for each image, its probability, and whether it is unsure."""
    decision = Decision.of(manifest)
    names = [name if name.isprintable() else repr(name) for name in pictures]
    begins = [f"{name}\t" for name in names] or [""] * len(rows)
    answers = zip(*decide(rows, decision), strict=True)
    for begin, (label, confidence, unsure) in zip(begins, answers, strict=True):
        end = "\tunsure" if unsure else ""
        print(f"{begin}{manifest['class_names'][label]}\t{confidence:.4f}{end}")


def save_rows(output: Path, rows: np.ndarray, pictures: Sequence[str]) -> None:
    """Writes all probabilities, and the names of pictures."""
    if pictures:
        np.savez(output, probabilities=rows, pictures=np.array(pictures))
    else:
        np.savez(output, probabilities=rows)


def main() -> None:
    """Runs the command line of the module docstring.

    Exit codes: 2 a package is missing, 3 a file is wrong, 5 a file cannot be written.
    """
    parser = argparse.ArgumentParser(description="Runs an exported network.")
    parser.add_argument("file", type=Path, help="exported file, such as model.onnx")
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        help="pictures and folders, or a .npy or .npz file of uint8 images",
    )
    parser.add_argument("--output", type=Path, help="an .npz for all probabilities")
    parser.add_argument("--latency", action="store_true", help="print latency as JSON")
    parser.add_argument(
        "--wait",
        action="store_true",
        help="print `ready` once compiled, and measure when standard input ends",
    )
    options = parser.parse_args()
    try:
        execute(options)
    except ImportError as error:
        package = "pillow" if error.name == "PIL" else error.name or error
        end(2, f"{options.file}: needs {package}, which is not installed")
    except BrokenPipeError:  # the reader of stdout stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except UnusableError as error:
        end(3, str(error))
    except OSError as error:
        end(5, str(error))
    except Exception as error:  # noqa: BLE001 - each runtime has its own exceptions
        end(3, f"{options.file}: {type(error).__name__}: {error}")


def end(code: int, message: str) -> NoReturn:
    """Exits with one line on stderr."""
    warn(message)
    sys.exit(code)


def warn(message: str) -> None:
    """Prints one line on stderr."""
    print(f"run.py: {' '.join(message.split())[:500]}", file=sys.stderr)


if __name__ == "__main__":
    main()
