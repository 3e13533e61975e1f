"""Tables of pixels: a row an image, one column of labels, a column for each pixel."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
from pyarrow import compute

from src.data.examples import Examples, PassedOver, Source, select
from src.data.lazy_images import Images, ImageWriter
from src.errors import DataError, one_line, shortened
from src.sources.arrays import SPLIT_OF
from src.sources.csv_columns import WANTED, TableLayout, read_layout, wrong_columns
from src.sources.csv_rows import read_batches
from src.sources.labels import Labels, from_list, number_classes
from src.storage.reading import check_inside

SPLIT_WORDS = SPLIT_OF | {  # the latter are FER2013's
    "training": "train",
    "publictest": "validation",
    "privatetest": "test",
}


class Table(NamedTuple):
    """The content of a table."""

    images: Images
    labels: Labels
    splits: list[str]  # of each row; empty if no column tells


def load_csv(folder: Path) -> Source:
    """Reads `train.csv`, and `val.csv` and `test.csv` if they have labels.

    A single table may have a column that tells the split of each row.

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
    layouts = read_layouts(home, files)
    splits: dict[str, tuple[Images, Labels]] = {}
    for split, layout in layouts.items():
        path = home / files[split]
        if layout.label is None:
            reason = "no column of labels, so it cannot be scored"
            passed_over.append(PassedOver(path.name, reason))
            continue
        table = read_table(path, layout, layout.label)
        one = {split: (table.images, table.labels)}
        splits |= divide(table, path) if layout.split else one
    raw = {split: labels for split, (_, labels) in splits.items()}
    class_names, numbered = number_classes(same_kind(raw), None)
    examples = {
        split: Examples(images, numbered[split])
        for split, (images, _) in splits.items()
    }
    source = Source.of_splits("csv", class_names, examples)
    notes = [
        f"{files[split]}: {note}"
        for split, layout in layouts.items()
        for note in layout.notes
    ]
    return source._replace(passed_over=passed_over, notes=notes)


def read_layouts(home: Path, files: Mapping[str, str]) -> dict[str, TableLayout]:
    """The layout of each table, first that of train.

    Raises:
        DataError: a table is malformed; that of train has no labels; or there are
            several, and one has a column of splits.
    """
    layouts: dict[str, TableLayout] = {}
    for split in sorted(files, key=lambda split: split != "train"):
        path = home / files[split]
        check_inside(path, home)
        layout = read_layout(path, layouts.get("train"))
        if split == "train" and layout.label is None:
            raise wrong_columns(path, layout.header.names)
        if layout.split and len(files) > 1:
            raise DataError(
                f"{path}: expected splits in files or in the column {layout.split}, "
                f"found both. Remove the column, or put this file alone in a folder."
            )
        layouts[split] = layout
    return layouts


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


def read_table(path: Path, layout: TableLayout, label: str) -> Table:
    """Reads the images and labels of a table, block by block.

    Raises:
        DataError: a pixel is no integer in [0, 255], a field is missing, or there are
            no rows.
        StorageError: the disk is full.
    """
    texts = [label, *([layout.split] if layout.split else [])]
    kind = pyarrow.uint8() if layout.shape else pyarrow.string()
    types = dict.fromkeys(texts, pyarrow.string()) | dict.fromkeys(layout.pixels, kind)
    writer: ImageWriter | None = None
    labels: list[str] = []
    splits: list[str] = []
    try:
        for batch in read_batches(path, layout.header, types):
            if any(column.null_count for column in batch.columns):
                raise ValueError(f"an empty field after row {len(labels)}")
            if not len(batch):
                continue
            images = to_pixels(batch, layout)
            if writer is None:
                least = 2 * images[0].size  # bytes of a row: a digit and a separator
                most = path.stat().st_size // least + 1
                writer = ImageWriter((most, *images.shape[1:]))
            writer.add(images)
            labels += batch.column(label).to_pylist()
            splits += batch.column(layout.split).to_pylist() if layout.split else []
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise DataError(
            f"{path}: expected rows of {len(layout.header.names)} fields, with pixels "
            f"as integers in [0, 255], found {one_line(error)}. Save pixels as "
            "integers; multiply those in [0, 1] by 255 and round them."
        ) from None
    if writer is None:
        raise DataError(f"{path}: expected a row for each image, found none. Add some.")
    return Table(writer.images(), from_list(labels, str(path)), splits)


def to_pixels(batch: pyarrow.RecordBatch, layout: TableLayout) -> np.ndarray:
    """The images of a block of rows, uint8 `[n, height, width, channels]`.

    Raises:
        ValueError: pixels in text are no integers in [0, 255], or no square.
    """
    if layout.shape is not None:
        pixels = [batch.column(name) for name in layout.pixels]
        columns = [column.to_numpy(zero_copy_only=False) for column in pixels]
        return np.stack(columns, 1).reshape(-1, *layout.shape)
    texts = compute.utf8_trim_whitespace(batch.column(layout.pixels[0]))
    fields = compute.utf8_split_whitespace(texts)
    counts = set(compute.list_value_length(fields).to_pylist())
    side = round(max(counts) ** 0.5)
    if counts != {side * side}:
        raise ValueError(f"images of {min(counts)} to {max(counts)} pixels, no square")
    flat = fields.flatten().cast(pyarrow.uint8())
    return flat.to_numpy(zero_copy_only=False).reshape(-1, side, side, 1)


def divide(table: Table, path: Path) -> dict[str, tuple[Images, Labels]]:
    """Divides a table by its column of splits.

    Raises:
        DataError: the column names no split, or none of train.
    """
    names = np.array([SPLIT_WORDS.get(word.lower(), "") for word in table.splits])
    if "" in names or "train" not in names:
        found = ", ".join(shortened(word) for word in sorted(set(table.splits))[:5])
        raise DataError(
            f"{path}: expected train, val or test (or Training, PublicTest, "
            f"PrivateTest) as splits, some of them train, found {found}. Correct them."
        )
    divided = {}
    for split in sorted(set(names.tolist())):
        rows = names == split
        images, _ = select(Examples(table.images, table.labels.values), rows)
        values = table.labels.values[rows]
        divided[split] = images, table.labels._replace(values=values)
    return divided


def same_kind(splits: dict[str, Labels]) -> dict[str, Labels]:
    """Labels as integers if all of them are; otherwise as text."""
    try:
        return {
            split: labels._replace(values=labels.values.astype(np.int64))
            for split, labels in splits.items()
        }
    except (ValueError, OverflowError):
        return splits
