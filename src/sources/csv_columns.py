"""Which column of a table of pixels is what."""

import csv
import re
from pathlib import Path
from typing import NamedTuple

from src.errors import DataError, one_line, shortened
from src.sources.labels import LABEL_NAMES
from src.storage.reading import open_regular

INDEX_NAMES = ("", "unnamed: 0", "id", "index")  # as pandas writes row numbers
FILE_NAMES = ("file", "file_name", "filename", "path", "image", "image_path")
MAX_LINE = 4 << 20  # bytes; a million pixels of three digits
MAX_COLUMNS = 51_000  # 224 x 224 and some; each costs memory
PLACE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")  # row and column of a pixel
NUMBERED = re.compile(r"[A-Za-z_ ]*([0-9]{1,9})")
WANTED = (
    f"one column of labels ({', '.join(LABEL_NAMES)}) and pixels in columns pixel0, "
    "pixel1, ... or 1x1, 1x2, ..."
)


class TableLayout(NamedTuple):
    """Which column of a table is what."""

    columns: list[str]  # names, made up for a table without a header
    has_header: bool
    label: str | None
    pixels: list[str]  # in the order of the image: by row, column, channel
    shape: tuple[int, int, int]  # height, width, channels


def read_layout(path: Path) -> TableLayout:
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
    return TableLayout(names, has_header, label, ordered, shape)


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
        for name in names[:MAX_COLUMNS]
        if not NUMBERED.fullmatch(name) and name.lower() not in LABEL_NAMES
    ]
    shown = ", ".join(shortened(name) for name in odd[:5] or names[:5]) or "none"
    repair = "Rename or remove columns, or save arrays for dataset: npz."
    if any(name.lower() in FILE_NAMES for name in names):
        repair = "For a table of picture files, set dataset: folder in params.yaml."
    return DataError(
        f"{path}: expected {WANTED}, found {len(names)} columns, such as {shown}. "
        f"{repair}"
    )
