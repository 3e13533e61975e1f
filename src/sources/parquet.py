"""Data sets of Hugging Face in parquet files: a column of pictures, one of labels."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from src.data.examples import Examples, PassedOver, Source
from src.data.pictures import PicturePolicy
from src.errors import DataError
from src.sources.labels import from_list, number_classes
from src.sources.parquet_files import (
    Columns,
    Row,
    find_parquet_files,
    read_rows,
    read_schema,
)
from src.sources.picture_splits import (
    Listed,
    PictureList,
    ReadSplit,
    broken_pictures,
    read_splits,
)
from src.sources.read_pictures import Broken, PictureOptions

HIDDEN = (None, -1)  # Hugging Face's label of a test set without labels
Table = tuple[Path, Columns]


def load_parquet(folder: Path, options: PictureOptions) -> Source:
    """Reads `train-*.parquet`, and perhaps `validation-*` and `test-*`.

    The class names are those of the ClassLabel in the schema; without them, the
    distinct labels.

    Args:
        folder: `data_path`; the files may be in its folder `data`. A file is read as
            the only one.
        options: the size, the channels and so on.

    Raises:
        DataError: files are missing or damaged, pictures cannot be read, or sizes
            differ and `options.size` is None.
        StorageError: the disk is full.
    """
    files, passed_over = find_parquet_files(folder)
    home = folder.parent if folder.is_file() else folder
    tables = {
        split: [(path, read_schema(path, home)) for path in paths]
        for split, paths in files.items()
    }
    for split in [name for name in tables if name != "train"]:
        if not has_labels(tables[split]):
            reason = "no labels, so it cannot be scored"
            names = [str(path.relative_to(home)) for path, _ in tables.pop(split)]
            passed_over += [PassedOver(name, reason) for name in names]
    class_names = common_names(tables)
    splits = {
        split: PictureList(
            sum(columns.rows for _, columns in each), partial(listed, home, each)
        )
        for split, each in tables.items()
    }
    policy, read = read_splits(home, splits, options)
    where = {split: str(each[0][0]) for split, each in tables.items()}
    source = number_splits(read, where, class_names, policy)
    notes = {  # one for all files
        f"{split}: {note}": None
        for split, each in tables.items()
        for _, columns in each
        for note in columns.notes
    }
    passed_over = [*broken_pictures(read), *passed_over]
    return source._replace(passed_over=passed_over, notes=list(notes))


def number_splits(
    read: Mapping[str, ReadSplit],
    where: Mapping[str, str],
    names: list[str] | None,
    policy: PicturePolicy,
) -> Source:
    """Numbers the classes; `where` has the first file of each split.

    Raises:
        DataError: a label is not among the classes.
    """
    raw = {name: from_list(split.labels, where[name]) for name, split in read.items()}
    class_names, labels = number_classes(raw, names)
    examples = {
        name: Examples(split.images, labels[name]) for name, split in read.items()
    }
    return Source.of_splits("parquet", class_names, examples)._replace(
        origins={name: split.origins for name, split in read.items()},
        pictures=policy,
    )


def has_labels(tables: Sequence[Table]) -> bool:
    """Whether a split has a column of labels, and not all of them are hidden."""
    if any(columns.label is None for _, columns in tables):
        return False
    rows = (row for table in tables for row in read_rows(*table))
    return any(row.label not in HIDDEN for row in rows)


def common_names(tables: Mapping[str, Sequence[Table]]) -> list[str] | None:
    """The class names in the files.

    Raises:
        DataError: there is no column of labels, or two files have different names.
    """
    first, columns = tables["train"][0]
    for path, other in (table for each in tables.values() for table in each):
        if other.label is None:
            raise DataError(
                f"{path}: expected one column of labels, named label, found none. "
                "Write the file with such a column."
            )
        if other.class_names != columns.class_names:
            raise DataError(
                f"{path}: expected the class names of {first}, found others. "
                "Write both files with the same ClassLabel."
            )
    return columns.class_names


def listed(home: Path, tables: Sequence[Table]) -> Iterator[Listed]:
    """Lists the pictures of a split; their names are the file and the row.

    Raises:
        DataError: a file is damaged, or a label is missing.
    """
    for path, columns in tables:
        for row in read_rows(path, columns):
            place = f"{path.relative_to(home)} row {row.number}"
            if row.label is None:
                raise DataError(
                    f"{home}: expected a label in {place}, found none. Write the file "
                    "without this row."
                )
            name = f"{place} {row.file}".strip()
            yield Listed(name, content_of(row), row.label, row.file or place)


def content_of(row: Row) -> bytes | Broken:
    """The file of a picture, or why there is none."""
    only_path = f"only a path, {row.file}" if row.file else "an empty field"
    return row.content or Broken(only_path)
