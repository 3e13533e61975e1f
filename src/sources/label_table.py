"""Tables of labels: `labels.csv`, and Hugging Face's `metadata.csv`."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from unicodedata import normalize

from src.errors import DataError, one_line
from src.sources.file_tree import FileTree
from src.storage.reading import MAX_CSV_BYTES, check_inside, read_bytes

TABLES = "labels.csv", "metadata.csv"
CORRECTIONS = Path(TABLES[0])  # of labels, if it has the column GIVEN
GIVEN = "given_label"
FILE_COLUMNS = "file", "file_name"
WRITE_TABLE = "Write a row per picture with the columns file,label."


class LabelRow(NamedTuple):
    """A row of a table of labels."""

    table: Path  # relative to data_path, as is `path`
    line: int  # from 1
    path: Path
    label: str  # in Unicode's form NFC, as is `group`
    split: str  # as written; empty: the table does not say
    group: str


def read_corrections(tree: FileTree) -> list[LabelRow]:
    """The rows of `labels.csv` right in data_path, if it corrects labels; or none.

    Such a table has a column `given_label`, as in metrics/doubtful_labels.csv. It does
    not list the data set: other pictures keep the labels that they have without it.

    Raises:
        DataError: the table is malformed, or lists a file twice.
    """
    path = tree.root / CORRECTIONS
    if not path.is_file():
        return []
    _, cells = next(read_lines(path))
    return read_label_table(tree, CORRECTIONS) if GIVEN in cells else []


def find_label_tables(
    tree: FileTree, tops: Mapping[str, Path], corrected: bool
) -> list[Path]:
    """The table of labels right in data_path, or one in each folder of a split.

    Args:
        tree: the files below data_path.
        tops: the folder of each split.
        corrected: whether `CORRECTIONS` corrects labels, so it is no such table.

    Raises:
        DataError: there are two in a folder, or a split has none and another has.
    """
    for folders in ([Path()], sorted(tops.values())):
        paths = [folder / name for folder in folders for name in TABLES]
        if corrected:
            paths = [path for path in paths if path != CORRECTIONS]
        found = [path for path in paths if (tree.root / path).is_file()]
        for folder in folders if found else []:
            here = [path.name for path in found if path.parent == folder]
            if len(here) != 1:
                raise DataError(
                    f"{tree.root / folder}: expected one table of labels, found "
                    f"{' and '.join(here) or 'none, but ' + str(found[0])}. "
                    f"{'Remove one.' if here else 'Add it, or use class folders.'}"
                )
        if found:
            return found
    return []


def read_label_table(tree: FileTree, table: Path) -> list[LabelRow]:
    """Reads a table of labels.

    A file that is missing is not an error here: reading it will be one.

    Raises:
        DataError: the table is malformed, a file is listed twice, or is outside of the
            data set.
    """
    others = [Path(each.file) for each in tree.passed_over]  # read if they are listed
    on_disk = {
        normalize("NFC", path.as_posix()): path for path in [*others, *tree.pictures]
    }
    checked = set(tree.pictures)
    lines: dict[Path, int] = {}
    rows = []
    for line, cells in read_lines(tree.root / table):
        where = f"{tree.root / table}: line {line}"
        name = next(cells[key] for key in FILE_COLUMNS if key in cells)
        label = normalize("NFC", cells["label"])
        if not name or not label:
            missing = "file" if not name else "label"
            raise DataError(
                f"{where}: {missing}: expected a name, found none. Fill it in, or "
                "remove the row."
            )
        path = listed_path(table, name, where)
        path = on_disk.get(normalize("NFC", path.as_posix()), path)
        if path not in checked:
            check_inside(tree.root / path, tree.root)
        if path in lines:
            raise DataError(
                f"{where}: expected each file once, found {name} also in line "
                f"{lines[path]}. Remove one of the rows."
            )
        lines[path] = line
        split, group = cells.get("split", ""), normalize("NFC", cells.get("group", ""))
        if "split" in cells and not split:
            raise DataError(
                f"{where}: split: expected train, validation or test, found none. "
                "Fill it in, or remove the column."
            )
        rows.append(LabelRow(table, line, path, label, split, group))
    return rows


def listed_path(table: Path, name: str, where: str) -> Path:
    """The path of a listed file, relative to data_path.

    Raises:
        DataError: it is outside of the table's folder.
    """
    inner = PurePosixPath(name.replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts or "\0" in name:
        raise DataError(
            f"{where}: expected a path inside of the table's folder, found {name!r}. "
            "Write it relative to the table."
        )
    return table.parent / inner


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the line number and the cells of each row, by column.

    Columns are separated by commas, semicolons or tabs; names are in any case.

    Raises:
        DataError: the file is no table, or lacks a column.
    """
    check_inside(path, path.parent)
    content = read_bytes(path, WRITE_TABLE, MAX_CSV_BYTES)
    try:
        text = content.decode("utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        columns = [name.strip().lower() for name in next(reader, [])]
        check_columns(path, columns)
        count = 0
        for cells in reader:
            if not any(cells):  # an empty line
                continue
            if len(cells) != len(columns):
                raise ValueError(
                    f"{len(cells)} cells in line {reader.line_num} for "
                    f"{len(columns)} columns"
                )
            count += 1
            stripped = (cell.strip() for cell in cells)
            yield reader.line_num, dict(zip(columns, stripped, strict=True))
        if not count:
            raise ValueError("no rows")
    except (ValueError, csv.Error) as error:  # ValueError also for invalid UTF-8
        raise DataError(
            f"{path}: expected a table in UTF-8, found {one_line(error)}. {WRITE_TABLE}"
        ) from None


def check_columns(path: Path, columns: list[str]) -> None:
    """Raises DataError if a column is missing or there twice."""
    files = sum(name in FILE_COLUMNS for name in columns)
    if files == 1 and "label" in columns and len(set(columns)) == len(columns):
        return
    raise DataError(
        f"{path}: expected the columns file (or file_name) and label, and optionally "
        f"split and group, found {', '.join(columns[:9]) or 'none'}. {WRITE_TABLE} If "
        "class folders hold the pictures, rename the table."
    )
