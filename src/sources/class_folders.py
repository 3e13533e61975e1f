"""Class folders: the pictures below `<class>/` are of that class.

They may be in folders inside of it, by year or camera. Two levels of classes are
refused, because nothing tells which of them is meant.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from src.errors import DataError
from src.sources.file_tree import FileTree, display_name

SPLIT_NAMES = {  # of folders and in tables, in any case
    "train": "train",
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
SUPPORTED = (
    "Supported: train/<class>/*.jpg with test/<class> and val/<class> if you have "
    "them, <class>/*.jpg, or a table labels.csv with the columns file,label"
)


class Picture(NamedTuple):
    """A picture file, and what its place or a table tells of it."""

    path: Path  # relative to data_path
    label: str  # name of the class, in Unicode's form NFC
    group: str = ""


def read_class_folders(tree: FileTree, top: Path, split: str) -> list[Picture]:
    """The pictures in the class folders of `top`, sorted by path.

    Args:
        tree: the files below data_path.
        top: the folder that holds the class folders, relative to data_path.
        split: train, validation or test.

    Raises:
        DataError: there are no pictures, or not in one level of class folders.
    """
    pictures = [path.relative_to(top) for path in tree.below(top)]
    inside = [path for path in pictures if len(path.parts) > 1]
    loose = [path for path in pictures if len(path.parts) == 1]
    where = tree.root / top
    if loose and (not inside or top != Path()):
        raise DataError(loose_pictures(where, loose, split))
    if not inside:
        other = "set data_path in params.yaml" if split == "train" else "remove it"
        raise DataError(
            f"{where}: expected pictures in class folders, found "
            f"{describe_folder(tree, top)}. Put them there, or {other}. {SUPPORTED}."
        )
    if all(len(path.parts) > 2 for path in inside):
        check_inner_folders(tree.root, top, inside)
    return [Picture(top / path, class_of(path)) for path in inside]


def class_of(path: Path) -> str:
    """The class of a picture by its path below the folder of its split."""
    return normalize("NFC", display_name(Path(path.parts[0])))


def empty_classes(tree: FileTree, top: Path) -> list[str]:
    """Warnings of class folders without a picture."""
    filled = {path.relative_to(top).parts[0] for path in tree.below(top)}
    return [
        f"{tree.root / path}: a class folder without pictures: not used."
        for path in tree.folders_in(top)
        if path.name not in filled
    ]


def loose_pictures(where: Path, loose: Sequence[Path], split: str) -> str:
    """The message about pictures that are in no class folder."""
    found = f"found {len(loose)} in no class folder, such as {display_name(loose[0])}"
    if split == "train":
        return f"{where}: expected pictures in class folders, {found}. {SUPPORTED}."
    return (
        f"{where}: expected pictures in class folders, {found}. If they have no "
        "labels, move it away and classify it with `python -m stages.predict "
        f"{where.name}/`."
    )


def describe_folder(tree: FileTree, top: Path) -> str:
    """What a folder without pictures holds."""
    files = [
        each.file for each in tree.passed_over if Path(each.file).is_relative_to(top)
    ]
    if files:
        return f"{len(files)} other files, such as {files[0]}"
    folders = tree.folders_in(top)
    return f"{len(folders)} folders without pictures" if folders else "nothing"


def check_inner_folders(root: Path, top: Path, pictures: Sequence[Path]) -> None:
    """Refuses two levels of classes; no class folder has a picture right in it.

    Folders that sort the pictures of one class have numbers as names, or several
    classes have folders of the same names.

    Args:
        root: data_path.
        top: the folder that holds the class folders, relative to `root`.
        pictures: relative to `top`.

    Raises:
        DataError: the inner folders are classes, splits, or hold the whole data set.
    """
    inner: dict[str, set[str]] = {}
    for path in pictures:
        inner.setdefault(path.parts[0], set()).add(path.parts[1])
    names = [name for folders in inner.values() for name in folders]
    splits = [name for name in names if name.casefold() in SPLIT_NAMES]
    if len(inner) == 1 and (len(names) > 1 or splits):
        raise DataError(only_folder(root, top, inner))
    first = next(iter(inner))
    where = root / top
    if splits:
        raise DataError(
            f"{where}: expected {splits[0]}/<class>, found <class>/{splits[0]}, such "
            f"as {first}/{splits[0]}. Swap the two levels. {SUPPORTED}."
        )
    shared = len(set(names)) < len(names)
    if len(inner) > 1 and not shared and not all(map(is_numeric, names)):
        raise DataError(
            f"{where}: expected one level of class folders, found two, such as "
            f"{first}/{min(inner[first])}. If the inner folders are the classes, move "
            f"them up into {where}; if the outer ones are, move the pictures up, or "
            f"list them in a table. {SUPPORTED}."
        )


def only_folder(root: Path, top: Path, inner: Mapping[str, set[str]]) -> str:
    """The message about a folder that holds all others."""
    [(name, folders)] = inner.items()
    advice = (
        f"Set data_path: {root / name}"
        if top == Path()
        else f"Move them up into {root / top}"
    )
    return (
        f"{root / top}: expected at least two class folders, found only {name}, which "
        f"has folders itself ({listed(folders)}). {advice}."
    )


def is_numeric(name: str) -> bool:
    """Whether a name has no letter, such as a year or a date."""
    return not any(letter.isalpha() for letter in name)


def listed(names: Sequence[str] | set[str]) -> str:
    """The first names of several."""
    return ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
