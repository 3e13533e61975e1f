"""From picture files to inputs of an exported network, for run.py.

The functions get the module `pictures`, which is `src.data.pictures` in the project and
a file next to run.py elsewhere.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

READ_AT_ONCE = 64  # pictures in memory


class Taken(NamedTuple):
    """What was read of some of the files."""

    images: list[np.ndarray]  # uint8 [height, width, channels]
    names: list[str]  # of the pictures, in order
    wrong: list[str]  # a line for each file that cannot be read


def list_pictures(pictures: ModuleType, folder: Path) -> tuple[list[Path], int]:
    """The pictures of a folder by name, at any depth; and the number of other files.

    A link to a folder counts as one of these.
    """
    files = sorted(
        path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    )
    found = [
        path for path in files if is_picture_name(pictures, path.relative_to(folder))
    ]
    return found, len(files) - len(found)


def is_picture_name(pictures: ModuleType, path: Path) -> bool:
    """Whether a file's suffix is a picture's, and it is neither hidden nor a system's.

    `path` is relative: its folders count too.
    """
    hidden = any(
        part.startswith(".") or part.lower() in pictures.SYSTEM for part in path.parts
    )
    return path.suffix.lower() in pictures.SUFFIXES and not hidden


def read_all(
    pictures: ModuleType, files: Sequence[Path], expected: dict[str, Any]
) -> Iterator[Taken]:
    """Reads pictures and folders of them, at most `READ_AT_ONCE` at a time.

    Args:
        pictures: the module.
        files: as the command got them.
        expected: `input` of the manifest.
    """
    taken = Taken([], [], [])
    for file in files:
        found = list_pictures(pictures, file)[0] if file.is_dir() else [file]
        if not found:
            taken.wrong.append(f"{file}: expected {pictures.KINDS} files, found none")
        for path in found:
            try:
                taken.images.append(read_input(pictures, path, expected))
                taken.names.append(str(path))
            except pictures.PictureError as error:
                kinds = f".npy, .npz, {pictures.KINDS} file"
                taken.wrong.append(f"{path}: expected a {kinds}, found {error}")
            if len(taken.images) == READ_AT_ONCE:
                yield taken
                taken = Taken([], [], [])
    yield taken


def read_input(
    pictures: ModuleType, path: Path, expected: dict[str, Any]
) -> np.ndarray:
    """Reads a picture as uint8 `[height, width, channels]`.

    Raises:
        PictureError: it cannot be read, or no policy says how to make it fit.
    """
    if "pictures" in expected:
        policy = pictures.PicturePolicy.of(expected["pictures"])
        return pictures.read_pixels(path, policy)
    pixels = read_unfitted(pictures, path)
    found, wanted = list(pixels.shape), expected["shape"][1:]
    if found != wanted:
        raise pictures.PictureError(
            f"one of height, width, channels {found} instead of {wanted}: resize it, "
            "or use python -m stages.predict"
        )
    return pixels


def read_unfitted(pictures: ModuleType, path: Path) -> np.ndarray:
    """Reads a picture in its own size, upright, in grey or RGB."""
    with pictures.open_picture(path) as picture:
        picture.load()
        turn = pictures.TURNS.get(pictures.orientation(picture))
        turned = picture if turn is None else picture.transpose(turn)
        opaque = pictures.without_transparency(turned, "white")
        return pictures.to_pixels(opaque, 1 if opaque.mode == "L" else 3)
