"""Tables of pixels: a row an image, one column of labels, a column for each pixel."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
from pyarrow import csv as arrow_csv

from src.data.examples import Examples, PassedOver, Source
from src.data.lazy_images import Images, ImageWriter
from src.errors import DataError, one_line, shortened
from src.sources.arrays import SPLIT_OF
from src.sources.labels import LABEL_NAMES, Labels, number_classes
from src.storage.reading import check_inside, open_regular

INDEX_NAMES = ("", "unnamed: 0", "id", "index")  # as pandas writes row numbers
MAX_LINE = 4 << 20  # bytes; a million pixels of three digits
MAX_COLUMNS = 200_000  # 256 x 256 RGB
BLOCK_BYTES = 16 << 20  # parsed at a time
PLACE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")  # row and column of a pixel
NUMBERED = re.compile(r"[A-Za-z_ ]*([0-9]{1,9})")
WANTED = (
    f"one column of labels ({', '.join(LABEL_NAMES)}) and pixels in columns pixel0, "
    "pixel1, ... or 1x1, 1x2, ..."
)


class Layout(NamedTuple):
    """Which column of a table is what."""

    columns: list[str]  # names, made up for a table without a header
    has_header: bool
    label: str | None
    pixels: list[str]  # in the order of the image: by row, column, channel
    shape: tuple[int, int, int]  # height, width, channels


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
    return Source(
        name="csv",
        version="none",
        class_names=class_names,
        train=examples["train"],
        validation=examples.get("validation"),
        test=examples.get("test"),
        passed_over=passed_over,
    )


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


def read_layout(path: Path) -> Layout:
    """Reads the first line, which has names, or integers in a table without a header.

    Without a header, the first column is the label.

    Raises:
        DataError: there is no such file, or its columns are not pixels.
    """
    with open_regular(path, "Put the table there.") as file:
        line = file.readline(MAX_LINE)
    try:
        names = next(csv.reader([line.decode("utf-8-sig")], strict=True), [])
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"{path}: expected a table of text, separated by commas, found "
            f"{one_line(error)}. Save it as CSV in UTF-8."
        ) from None
    names = [name.strip() for name in names]
    if not 2 <= len(names) <= MAX_COLUMNS or len(line) >= MAX_LINE:
        raise wrong_columns(path, names)
    has_header = not all(name.isdecimal() for name in names)
    if not has_header:
        names = ["label", *(f"pixel{number}" for number in range(len(names) - 1))]
    labels = [name for name in names if name.lower() in LABEL_NAMES]
    pixels = [
        name for name in names if name not in labels and name.lower() not in INDEX_NAMES
    ]
    if len(labels) > 1 or len(set(names)) < len(names):
        raise wrong_columns(path, names)
    ordered, shape = place_pixels(path, pixels)
    label = labels[0] if labels else None
    return Layout(names, has_header, label, ordered, shape)


def place_pixels(
    path: Path, names: list[str]
) -> tuple[list[str], tuple[int, int, int]]:
    """Orders the columns of pixels by row, column and channel, and gives the shape.

    Columns named `1x1` give height and width. Others are counted: they are a square,
    grey, or RGB with the channels of a pixel next to each other.

    Raises:
        DataError: a column has another name, or the number fits no shape.
    """
    places = [PLACE.fullmatch(name) for name in names]
    if names and all(places):
        order = {found[0]: (int(found[1]), int(found[2])) for found in places if found}
        height, width = (
            len({place[axis] for place in order.values()}) for axis in (0, 1)
        )
        if height * width == len(names) == len(set(order.values())):
            return sorted(names, key=order.__getitem__), (height, width, 1)
    numbers = [NUMBERED.fullmatch(name) for name in names]
    if not names or not all(numbers):
        raise wrong_columns(path, names)
    by_number = {found.string: int(found[1]) for found in numbers if found}
    if len(set(by_number.values())) < len(names):
        raise wrong_columns(path, names)
    for channels in (1, 3):
        side = round((len(names) / channels) ** 0.5)
        if side * side * channels == len(names):
            return sorted(names, key=by_number.__getitem__), (side, side, channels)
    raise DataError(
        f"{path}: expected pixels of square images, grey or RGB, found {len(names)} "
        "columns of pixels. Name the columns 1x1, 1x2, ... (row x column), or save "
        "arrays for dataset: npz."
    )


def wrong_columns(path: Path, names: list[str]) -> DataError:
    """The error for a table with other columns."""
    odd = [
        name
        for name in names
        if not NUMBERED.fullmatch(name) and name.lower() not in LABEL_NAMES
    ]
    shown = ", ".join(shortened(name) for name in odd[:5] or names[:5]) or "none"
    return DataError(
        f"{path}: expected {WANTED}, found {len(names)} columns, such as {shown}. "
        "Rename or remove columns."
    )


def read_table(path: Path, layout: Layout, label: str) -> tuple[Images, Labels]:
    """Reads the images and labels of a table, block by block.

    Raises:
        DataError: a pixel is no integer in [0, 255], a field is missing, or there are
            no rows.
        StorageError: the disk is full.
    """
    least = 2 * len(layout.columns)  # bytes of a row: a digit and a separator each
    most = path.stat().st_size // least + 1
    writer, labels = ImageWriter((most, *layout.shape)), []
    try:
        for batch in read_batches(path, layout, label):
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
            f"integers in [0, 255], found {one_line(error)}. Correct the table."
        ) from None
    if not labels:
        raise DataError(f"{path}: expected a row for each image, found none. Add some.")
    return writer.images(), Labels(np.array(labels, str), str(path))


def read_batches(
    path: Path, layout: Layout, label: str
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
