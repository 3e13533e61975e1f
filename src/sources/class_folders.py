"""Class folders: the pictures below `<class>/` are of that class.

They may be in folders inside of it that only sort them, by date for example. Two levels
of classes are refused, because nothing tells which of them is meant.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from src.errors import DataError, counted
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
    folders = sorted({path.parent for path in inside})
    if split == "train":
        check_only_folder(tree.root, top, folders)
    check_splits_inside(tree.root, top, folders)
    check_inner_folders(tree.root, top, folders)
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
        return f"{counted(len(files), 'other file')}, such as {files[0]}"
    folders = len(tree.folders_in(top))
    return f"{counted(folders, 'folder')} without pictures" if folders else "nothing"


def check_only_folder(root: Path, top: Path, folders: Sequence[Path]) -> None:
    """Refuses a folder that holds the whole data set.

    Args:
        root: data_path.
        top: the folder that holds the class folders, relative to `root`.
        folders: those with pictures, sorted and relative to `top`.

    Raises:
        DataError: there is only one class folder, and it has folders itself.
    """
    outer = {folder.parts[0] for folder in folders}
    inner = sorted({name for folder in folders for name in folder.parts[1:2]})
    if len(outer) > 1 or not (len(inner) > 1 or any(map(is_split, inner))):
        return
    [name] = outer
    move = f"Move them up into {root / top}"
    advice = f"Set data_path: {root / name}" if top == Path() else move
    raise DataError(
        f"{root / top}: expected at least two class folders, found only {name}, which "
        f"has folders itself ({listed(inner)}). {advice}."
    )


def check_splits_inside(root: Path, top: Path, folders: Sequence[Path]) -> None:
    """Refuses `<class>/train` and `<class>/test`; the arguments are as above.

    Raises:
        DataError: a folder inside of a class is named like a split.
    """
    for folder in folders:
        for level, name in enumerate(folder.parts):
            if level and is_split(name):
                found = display_name(Path(*folder.parts[: level + 1]))
                raise DataError(
                    f"{root / top}: expected {name}/<class>, found <class>/{name}, "
                    f"such as {found}. Swap the two levels, so that its pictures are "
                    f"in {root / name / folder.parts[0]}; or rename it, if it only "
                    "sorts pictures."
                )


def check_inner_folders(root: Path, top: Path, folders: Sequence[Path]) -> None:
    """Refuses two levels of classes; the arguments are as above.

    Folders that only sort the pictures of a class have numbers as names, or one name in
    all classes, such as `images`.

    Raises:
        DataError: the folders inside of the classes have several names.
    """
    for level in range(1, max(len(folder.parts) for folder in folders)):
        inner = [
            folder.parts[: level + 1]
            for folder in folders
            if len(folder.parts) > level and not is_numeric(folder.parts[level])
        ]
        if len({parts[level].casefold() for parts in inner}) > 1:
            classes = sorted({folder.parts[0] for folder in folders})
            raise DataError(
                f"{root / top}: expected one level of class folders, found two, such "
                f"as {display_name(Path(*inner[0]))}: the outer ones "
                f"({listed(classes)}) would be the classes. If the inner ones are, "
                f"move them up into {root / top}; if the outer ones are, move the "
                f"pictures up into them; or list the pictures in "
                f"{root / 'labels.csv'}. {SUPPORTED}."
            )


def numbered_folders(tree: FileTree, top: Path) -> list[str]:
    """A warning if short numbers inside of the classes may be the classes themselves.

    Longer ones are years or dates.
    """
    holders = {path.parent for path in tree.below(top)}
    folders = [holder.relative_to(top).parts for holder in holders]
    first = (next(filter(is_numeric, parts[1:]), "") for parts in folders)
    names = sorted({name for name in first if name.isdecimal() and len(name) < 4})
    if len(names) < 2:
        return []
    classes = sorted({parts[0] for parts in folders if parts})
    return [
        f"{tree.root / top}: the classes are {listed(classes)}; folders inside of them "
        f"({listed(names)}) only sort their pictures. If those are the classes, move "
        "them up."
    ]


def is_split(name: str) -> bool:
    """Whether a folder is named like a split."""
    return name.casefold() in SPLIT_NAMES


def is_numeric(name: str) -> bool:
    """Whether a name has no letter, such as a year or a date."""
    return not any(letter.isalpha() for letter in name)


def listed(names: Sequence[str] | set[str]) -> str:
    """The first names of several."""
    return ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
