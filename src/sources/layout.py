"""Which pictures a folder holds: the class, split and group of each.

Supported are `train/<class>/*` with optional `validation` and `test` folders,
`<class>/*`, and tables of labels. In each, a `labels.csv` may correct some labels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from src.data.examples import PassedOver
from src.errors import DataError, suggestion
from src.sources.class_folders import (
    SPLIT_NAMES,
    SUPPORTED,
    Picture,
    empty_classes,
    listed,
    numbered_folders,
    read_class_folders,
)
from src.sources.file_tree import FileTree, display_name, read_tree
from src.sources.label_table import (
    CORRECTIONS,
    LabelRow,
    find_label_tables,
    read_corrections,
    read_label_table,
)

NO_CORRECTIONS: Mapping[Path, str] = MappingProxyType({})


class Layout(NamedTuple):
    """The pictures of a data set."""

    splits: Mapping[str, Sequence[Picture]]  # train, and the given others; by path
    passed_over: list[PassedOver]
    warnings: list[str]
    corrections: Mapping[Path, str] = NO_CORRECTIONS  # the right label, by picture

    def class_names(self) -> list[str]:
        """The names of the classes in train, sorted."""
        return sorted({picture.label for picture in self.splits["train"]})


def find_layout(folder: Path) -> Layout:
    """Finds the pictures of a data set.

    Args:
        folder: `data_path`.

    Raises:
        DataError: the layout is none of the supported ones, a split other than train
            has a class that train lacks, or a table is malformed.
    """
    tree = read_tree(folder)
    tops = split_folders(tree)
    corrections = read_corrections(tree)
    if tables := find_label_tables(tree, tops, bool(corrections)):
        layout, tops = layout_of_tables(tree, tables), {}
    elif tops:
        layout = layout_of_splits(tree, tops)
    else:
        pictures = read_class_folders(tree, Path(), "train")
        layout = Layout(
            {"train": pictures},
            [*unused(tree, pictures, "in no class folder"), *tree.passed_over],
            [*empty_classes(tree, Path()), *numbered_folders(tree, Path())],
        )
    check_classes(folder, layout, tops)
    return with_corrections(layout, tree, corrections) if corrections else layout


def with_corrections(
    layout: Layout, tree: FileTree, rows: Sequence[LabelRow]
) -> Layout:
    """The layout with the labels that a table corrects.

    Raises:
        DataError: a row names no picture of the data set, or no class of train.
    """
    known = {each.path for pictures in layout.splits.values() for each in pictures}
    names = layout.class_names()
    for row in rows:
        where = f"{tree.root / row.table}: line {row.line}"
        if row.path not in known:
            raise DataError(
                f"{where}: expected a picture of the data set, found "
                f"{display_name(row.path)}. Remove the row, or the column given_label "
                "if the table lists the whole data set."
            )
        if row.label not in names:
            raise DataError(
                f"{where}: expected one of the classes in train ({listed(names)}), "
                f"found '{row.label}'.{suggestion(row.label, names)} Correct the label."
            )
    table = display_name(CORRECTIONS)
    return layout._replace(
        passed_over=[each for each in layout.passed_over if each.file != table],
        corrections={row.path: row.label for row in rows},
    )


def split_folders(tree: FileTree) -> dict[str, Path]:
    """The folders `train`, `val`, `test` and so on, by the name of their split.

    Raises:
        DataError: two folders are of one split.
    """
    found: dict[str, Path] = {}
    for path in tree.folders_in(Path()):
        split = SPLIT_NAMES.get(path.name.casefold())
        if split in found:
            raise DataError(
                f"{tree.root}: expected one folder of {split} pictures, found "
                f"{found[split]} and {path}. Merge them."
            )
        if split:
            found[split] = path
    return found


def layout_of_splits(tree: FileTree, tops: Mapping[str, Path]) -> Layout:
    """The layout `train/<class>/*`.

    Raises:
        DataError: train is missing, or a split is not in class folders.
    """
    if "train" not in tops:
        given = next(iter(tops.values()))
        others = [path.name for path in tree.folders_in(Path()) if path != given]
        raise DataError(
            f"{tree.root}: expected a folder train next to {given}, found "
            f"{listed(others) or 'no other'}.{suggestion('train', others)} Rename the "
            f"folder of the training pictures to train. {SUPPORTED}."
        )
    splits = {
        split: read_class_folders(tree, tops[split], split)
        for split in ("train", "validation", "test")
        if split in tops
    }
    used = [picture for pictures in splits.values() for picture in pictures]
    reason = f"outside of {' and '.join(path.name for path in tops.values())}"
    return Layout(
        splits,
        [*unused(tree, used, reason), *tree.passed_over],
        [
            *(line for top in tops.values() for line in empty_classes(tree, top)),
            *numbered_folders(tree, tops["train"]),
        ],
    )


def layout_of_tables(tree: FileTree, tables: Sequence[Path]) -> Layout:
    """The layout of tables of labels.

    Raises:
        DataError: a table is malformed, or no row is of the training split.
    """
    rows = [row for table in tables for row in read_label_table(tree, table)]
    rows.sort(key=lambda row: row.path.parts)
    splits: dict[str, list[Picture]] = {}
    for row, split in zip(rows, splits_of_rows(tree, rows), strict=True):
        picture = Picture(row.path, row.label, row.group)
        splits.setdefault(split, []).append(picture)
    if "train" not in splits:
        raise DataError(
            f"{tree.root / tables[0]}: expected rows of the split train, found only "
            f"{' and '.join(splits)}. Add training pictures, or name them train in a "
            "column split."
        )
    names = {display_name(path) for path in tables}
    used = [picture for pictures in splits.values() for picture in pictures]
    known = names | {display_name(picture.path) for picture in used}
    passed_over = [each for each in tree.passed_over if each.file not in known]
    reason = f"not in {' or '.join(sorted(names))}"
    return Layout(splits, [*unused(tree, used, reason), *passed_over], [])


def splits_of_rows(tree: FileTree, rows: Sequence[LabelRow]) -> list[str]:
    """The split of each row: of its column split, or of its folder.

    If neither tells, all are train.

    Raises:
        DataError: a split is unknown, or files are in folders of splits and elsewhere.
    """
    found = [row_split(tree, row) for row in rows]
    known = [row.path for row, split in zip(rows, found, strict=True) if split]
    unknown = [row for row, split in zip(rows, found, strict=True) if not split]
    if known and unknown:
        raise DataError(
            f"{tree.root / unknown[0].table}: line {unknown[0].line}: expected "
            f"{display_name(unknown[0].path)} in a folder train, validation or test, "
            f"as {display_name(known[0])} is, found it in none. Move it there, or add "
            "a column split."
        )
    return [split or "train" for split in found]


def row_split(tree: FileTree, row: LabelRow) -> str:
    """The split that a row's column names, or else a folder of its file; or "".

    Raises:
        DataError: the column names no split.
    """
    if not row.split:
        folders = (SPLIT_NAMES.get(name.casefold()) for name in row.path.parts[:-1])
        return next(filter(None, folders), "")
    if split := SPLIT_NAMES.get(row.split.casefold()):
        return split
    raise DataError(
        f"{tree.root / row.table}: line {row.line}: split: expected train, validation "
        f"or test, found '{row.split}'. Correct it."
    )


def unused(tree: FileTree, used: Sequence[Picture], reason: str) -> list[PassedOver]:
    """The pictures that are in no split."""
    known = {picture.path for picture in used}
    return [
        PassedOver(display_name(path), reason)
        for path in tree.pictures
        if path not in known
    ]


def check_classes(folder: Path, layout: Layout, tops: Mapping[str, Path]) -> None:
    """Checks the classes of all splits.

    Args:
        folder: `data_path`.
        layout: what it holds.
        tops: the folder of each split; empty if a table tells the labels.

    Raises:
        DataError: there is only one class, or a split other than train has a class
            that train lacks.
    """
    class_names = layout.class_names()
    if len(class_names) < 2:
        raise DataError(
            f"{folder}: expected at least two classes, found only {class_names[0]}. "
            f"Add pictures of another class. {SUPPORTED}."
        )
    known = set(class_names)
    for split, pictures in layout.splits.items():
        odd = [picture for picture in pictures if picture.label not in known]
        if not odd:
            continue
        path, label, _ = odd[0]
        nearest = suggestion(label, class_names)
        advice = "Rename the folder, or add training pictures of this class."
        if split not in tops:
            advice = "Correct the label, or add training pictures of this class."
        elif len(odd) == len(pictures) and not nearest:
            advice = (
                f"If these pictures have no labels, move {folder / tops[split]} away "
                f"and classify it with `python -m stages.predict {tops[split]}/`; "
                "otherwise move them into folders of these classes."
            )
        raise DataError(
            f"{folder / path}: expected one of the classes in train "
            f"({listed(class_names)}), found '{label}'.{nearest} {advice}"
        )
