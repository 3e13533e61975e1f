"""Tables of pixels: a row an image, one column of labels, a column for each pixel."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import csv as arrow_csv

from src.data.examples import Examples, PassedOver, Source
from src.data.lazy_images import Images, ImageWriter
from src.errors import DataError, one_line
from src.sources.arrays import SPLIT_OF
from src.sources.csv_columns import WANTED, TableLayout, read_layout, wrong_columns
from src.sources.labels import Labels, from_list, number_classes
from src.storage.reading import check_inside, open_regular

BLOCK_BYTES = 16 << 20  # parsed at a time


def load_csv(folder: Path) -> Source:
    """Reads `train.csv`, and `val.csv` and `test.csv` if they have labels.

    Args:
        folder: `data_path`; a file is read as the only table.

    Raises:
        DataError: there is no table of train, or a table is malformed.
        StorageError: the disk is full.
    """
    home = folder.parent if folder.is_file() else folder
    files = {"train": folder.name} if folder.is_file() else find_tables(folder)
    used = set(files.values())
    others = sorted(path.name for path in folder.glob("[!.]*.csv"))
    passed_over = [
        PassedOver(name, "not named like a split")
        for name in others
        if name not in used
    ]
    splits: dict[str, tuple[Images, Labels]] = {}
    for split, name in files.items():
        check_inside(home / name, home)
        layout = read_layout(home / name)
        if layout.label is not None:
            splits[split] = read_table(home / name, layout, layout.label)
        elif split == "train":
            raise wrong_columns(home / name, layout.columns)
        else:
            reason = "no column of labels, so it cannot be scored"
            passed_over.append(PassedOver(name, reason))
    raw = {split: labels for split, (_, labels) in splits.items()}
    class_names, numbered = number_classes(same_kind(raw), None)
    examples = {
        split: Examples(images, numbered[split])
        for split, (images, _) in splits.items()
    }
    source = Source.of_splits("csv", class_names, examples)
    return source._replace(passed_over=passed_over)


def find_tables(folder: Path) -> dict[str, str]:
    """The name of each split's table; a single table of another name is train.

    A table belongs to a split if its name is the split's, or ends in `_` or `-` and
    the split's: `sign_mnist_train.csv`.

    Raises:
        DataError: there is no table of train, or a split has two.
    """
    names = sorted(path.name for path in folder.glob("[!.]*.csv"))
    found: dict[str, str] = {}
    for name in names:
        split = SPLIT_OF.get(re.split("[-_]", name.lower().removesuffix(".csv"))[-1])
        if split is not None and split in found:
            raise DataError(
                f"{folder}: expected one table of the {split} split, found "
                f"{found[split]} and {name}. Remove one, or join them."
            )
        if split is not None:
            found[split] = name
    if not found and len(names) == 1:
        return {"train": names[0]}
    if "train" not in found:
        raise DataError(
            f"{folder / 'train.csv'}: expected a table with {WANTED}, found "
            f"{', '.join(names[:9]) or 'no csv file'}. Put it there, or rename the one "
            "of the training images."
        )
    return found


def read_table(path: Path, layout: TableLayout, label: str) -> tuple[Images, Labels]:
    """Reads the images and labels of a table, block by block.

    Raises:
        DataError: a pixel is no integer in [0, 255], a field is missing, or there are
            no rows.
        StorageError: the disk is full.
    """
    least = 2 * len(layout.columns)  # bytes of a row: a digit and a separator each
    most = path.stat().st_size // least + 1
    writer = ImageWriter((most, *layout.shape))
    labels: list[str] = []
    try:
        for batch in read_csv_batches(path, layout, label):
            fields = batch.column(label)
            pixels = [batch.column(name) for name in layout.pixels]
            if any(column.null_count for column in (fields, *pixels)):
                raise ValueError(f"an empty field after row {writer.count}")
            columns = [column.to_numpy(zero_copy_only=False) for column in pixels]
            writer.add(np.stack(columns, 1).reshape(-1, *layout.shape))
            labels += fields.to_pylist()
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise DataError(
            f"{path}: expected rows of {len(layout.columns)} fields, with pixels as "
            f"integers in [0, 255], found {one_line(error)}. Save pixels as integers."
        ) from None
    if not labels:
        raise DataError(f"{path}: expected a row for each image, found none. Add some.")
    return writer.images(), from_list(labels, str(path))


def read_csv_batches(
    path: Path, layout: TableLayout, label: str
) -> Iterator[pyarrow.RecordBatch]:
    """Yields blocks of rows: labels as text, pixels as uint8.

    Raises:
        ArrowException: a row is malformed.
    """
    types = {name: pyarrow.uint8() for name in layout.pixels}
    with open_regular(path, "Put the table there.") as file:
        if layout.has_header:
            file.readline()
        if not file.peek(1):
            return
        reader = arrow_csv.open_csv(
            file,
            read_options=arrow_csv.ReadOptions(
                block_size=BLOCK_BYTES,
                column_names=layout.columns,
                use_threads=False,  # so that errors name rows
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types={**types, label: pyarrow.string()},
                include_columns=[label, *layout.pixels],
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        yield from reader


def same_kind(splits: dict[str, Labels]) -> dict[str, Labels]:
    """Labels as integers if all of them are; otherwise as text."""
    try:
        return {
            split: labels._replace(values=labels.values.astype(np.int64))
            for split, labels in splits.items()
        }
    except (ValueError, OverflowError):
        return splits
