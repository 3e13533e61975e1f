"""The files below `data_path`, except what operating systems leave there.

DVC does not follow a link to a folder inside of `data_path`, so it would not see
changes behind it. Such a link is refused. `data_path` itself may be a link.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from src.data.examples import PassedOver
from src.data.pictures import SUFFIXES, SYSTEM
from src.errors import DataError
from src.storage.reading import check_inside

# What systems put at the top of a disk, in lower case.


class FileTree(NamedTuple):
    """What a folder holds, sorted by path."""

    root: Path
    pictures: list[Path]  # named like pictures, relative to `root`
    folders: list[Path]  # relative to `root`
    passed_over: list[PassedOver]  # hidden files, and files of other kinds

    def below(self, folder: Path) -> list[Path]:
        """The pictures in a folder and its folders."""
        return [path for path in self.pictures if path.is_relative_to(folder)]

    def folders_in(self, folder: Path) -> list[Path]:
        """The folders right in a folder."""
        return [path for path in self.folders if path.parent == folder]


def read_tree(root: Path) -> FileTree:
    """Lists a folder with all its folders.

    Raises:
        DataError: `root` is no folder, or there is a link to a folder, or to a file
            outside of `root` and the project.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: expected a folder of pictures, found "
            f"{'a file' if root.is_file() else 'none'}. Set data_path in params.yaml."
        )
    tree = FileTree(root, [], [], [])
    fill(tree, Path())
    return tree


def fill(tree: FileTree, folder: Path) -> None:
    """Adds what a folder below `tree.root` holds."""
    with os.scandir(tree.root / folder) as entries:
        sorted_entries = sorted(entries, key=lambda entry: entry.name)
    for entry in sorted_entries:
        path = folder / entry.name
        if is_hidden(entry.name):
            tree.passed_over.extend(
                PassedOver(display_name(each), "hidden or of the system")
                for each in files_below(tree.root, path)
            )
        elif entry.is_dir(follow_symlinks=False):
            tree.folders.append(path)
            fill(tree, path)
        elif entry.is_symlink() and (entry.is_dir() or not path.suffix):
            raise folder_link(tree.root / path)
        elif path.suffix.lower() in SUFFIXES:
            if entry.is_symlink():
                check_inside(tree.root / path, tree.root)
            tree.pictures.append(path)
        else:
            reason = f"no picture: {path.suffix.lower() or 'no suffix'}"
            tree.passed_over.append(PassedOver(display_name(path), reason))


def folder_link(path: Path) -> DataError:
    """The error for a link to a folder, or to nothing."""
    return DataError(
        f"{path}: expected a folder, found a link to {path.readlink()}: DVC would "
        "not see changes behind it. Replace the link by the folder itself, or by a "
        "copy of it."
    )


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or of an operating system or a tool."""
    return name.startswith(".") or name.lower() in SYSTEM


def files_below(root: Path, path: Path) -> Iterator[Path]:
    """The file itself, or all files in the folder, relative to `root`."""
    if (root / path).is_symlink() or not (root / path).is_dir():
        yield path
        return
    for folder, inner, names in os.walk(root / path):
        inner.sort()
        for name in sorted(names):
            yield Path(folder, name).relative_to(root)


def display_name(path: Path) -> str:
    """A path as text; bytes that are no UTF-8 are escaped."""
    return os.fsencode(path.as_posix()).decode(errors="backslashreplace")
