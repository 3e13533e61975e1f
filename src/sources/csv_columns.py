"""Which column of a table of pixels is what."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from src.errors import DataError, shortened
from src.sources.csv_labels import choose_end
from src.sources.csv_rows import Header, read_header
from src.sources.labels import LABEL_NAMES

FILE_NAMES = ("file", "file_name", "filename", "path", "image", "image_path")
SPLIT_COLUMNS = ("usage", "split")
MAX_COLUMNS = 51_000  # 224 x 224 and some; each costs memory
PLACE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")  # row and column of a pixel
NUMBERED = re.compile(r"[A-Za-z_ ]*([0-9]{1,9})")
CHANNEL = "red|green|blue|[rgb]"
COLOURED = re.compile(  # "r0", "red_1x1", "pixel0_g"
    rf"(?P<before>{CHANNEL})[ _.-]*(?P<place>.+)|"
    rf"(?P<rest>.+?)[ _.-]*(?P<after>{CHANNEL})",
    re.IGNORECASE,
)
WANTED = (
    f"one column of labels ({', '.join(LABEL_NAMES)}) and pixels in columns pixel0, "
    "pixel1, ... or 1x1, 1x2, ..."
)


class TableLayout(NamedTuple):
    """Which column of a table is what."""

    header: Header
    label: str | None
    pixels: list[str]  # by row, column, channel; or one, with the pixels as text
    shape: tuple[int, int, int] | None  # height, width, channels; None: pixels are text
    split: str | None = None  # the column that tells the split of a row
    notes: Sequence[str] = ()  # the rules by which columns were chosen


def read_layout(path: Path, train: TableLayout | None) -> TableLayout:
    """Reads which column is what.

    Args:
        path: the table.
        train: the layout of the table of train; None: this is it.

    Raises:
        DataError: there is no such file, or its columns are not pixels.
    """
    header = read_header(path)
    names = header.inner
    if not 1 <= len(names) <= MAX_COLUMNS or len(set(names)) < len(names):
        raise wrong_columns(path, header.names)
    if header.is_named or len(names) == 1:
        return layout_by_names(path, header)
    label: str | None
    if train is None or train.header.is_named:
        label, note = choose_end(path, header)
    else:
        label, note = same_end(names, train), ""
    pixels = [name for name in names if name != label]
    ordered, shape, order = place_pixels(path, pixels)
    notes = [each for each in (note, order) if each]
    return TableLayout(header, label, ordered, shape, notes=notes)


def layout_by_names(path: Path, header: Header) -> TableLayout:
    """The layout of a table with names.

    A column `Usage` or `split` tells the split. A column `pixels` has all pixels of an
    image as text; the column of labels is then the only other one, whatever its name.
    Kaggle's FER2013 is such a table.

    Raises:
        DataError: the column of labels cannot be told, or others are no pixels.
    """
    lower = {name: name.lower() for name in header.inner}
    splits = [name for name in lower if lower[name] in SPLIT_COLUMNS]
    labels = [name for name in lower if lower[name] in LABEL_NAMES]
    texts = [name for name in lower if lower[name] == "pixels"]
    others = [name for name in lower if name not in (*splits, *labels, *texts)]
    notes = []
    if texts and not labels and len(others) == 1:
        labels, others = others, []
        notes.append(f"{labels[0]} is read as labels: there is no other column.")
    if max(len(labels), len(splits), len(texts)) > 1 or (texts and others):
        raise wrong_columns(path, header.names)
    pixels, shape = texts, None
    if not texts:
        pixels, shape, order = place_pixels(path, others)
        notes += [order] if order else []
    label, split = (each[0] if each else None for each in (labels, splits))
    return TableLayout(header, label, pixels, shape, split, notes)


def same_end(names: list[str], train: TableLayout) -> str | None:
    """The column of labels in a table without names, at the same end as in train's.

    None if the table has one column less.
    """
    inner = train.header.inner
    if len(names) == len(inner) - 1:
        return None
    return names[0] if train.label == inner[0] else names[-1]


def place_pixels(
    path: Path, names: list[str]
) -> tuple[list[str], tuple[int, int, int], str]:
    """Orders the columns of pixels by row, column and channel.

    Columns named `1x1` give height and width. Others are counted: they are a square,
    grey or RGB. Names such as `r0`, `g0`, `b0` tell the channel; without such names the
    channels of a pixel are next to each other.

    Returns:
        The columns, the shape, and the rule that was used; empty if the names tell all.

    Raises:
        DataError: a column has another name, or the number fits no shape.
    """
    channels = find_channels(names)
    places = list(channels["r"]) if channels else names
    ordered, size = order_places(path, places, names)
    side = round(len(places) ** 0.5)
    if size is None and side * side == len(places):
        size = side, side
    if channels and size is not None:
        in_order = [channels[letter][place] for place in ordered for letter in "rgb"]
        return in_order, (*size, 3), ""
    if size is not None:
        return ordered, (*size, 1), ""
    side = round((len(names) / 3) ** 0.5)
    if side * side * 3 == len(names) and not channels:
        last = side * side - 1
        note = (
            f"{len(names)} columns of pixels are read as RGB, with the three values of "
            f"a pixel together. If all of red comes first, name them r0, ..., r{last}, "
            f"g0, ..., g{last}, b0, ..., b{last}."
        )
        return ordered, (side, side, 3), note
    raise DataError(
        f"{path}: expected pixels of square images, grey or RGB, found {len(names)} "
        "columns of pixels. Name the columns 1x1, 1x2, ... (row x column), or save "
        "arrays for dataset: npz."
    )


def order_places(
    path: Path, places: list[str], names: list[str]
) -> tuple[list[str], tuple[int, int] | None]:
    """Orders names such as `1x1` or `pixel0`; the former give height and width too.

    Raises:
        DataError: a name is none of these, or two name one pixel.
    """
    found = [PLACE.fullmatch(place) for place in places]
    if places and all(found):
        order = {match[0]: (int(match[1]), int(match[2])) for match in found if match}
        height, width = (len({at[axis] for at in order.values()}) for axis in (0, 1))
        if height * width == len(places) == len(set(order.values())):
            return sorted(places, key=order.__getitem__), (height, width)
    numbers = [NUMBERED.fullmatch(place) for place in places]
    by_number = {match.string: int(match[1]) for match in numbers if match}
    if not names or len(set(by_number.values())) < len(places):
        raise wrong_columns(path, names)
    return sorted(places, key=by_number.__getitem__), None


def find_channels(names: list[str]) -> dict[str, dict[str, str]] | None:
    """The columns by channel, then by place, if their names tell the channel.

    Of `r0, g0, b0`: `{"r": {"0": "r0"}, "g": {"0": "g0"}, "b": {"0": "b0"}}`.
    """
    found: dict[str, dict[str, str]] = {}
    for name in names:
        match = COLOURED.fullmatch(name)
        if match is None:
            return None
        channel = (match["before"] or match["after"])[0].lower()
        found.setdefault(channel, {})[match["place"] or match["rest"]] = name
    places = [set(each) for each in found.values()]
    same = len(places) == 3 and places[0] == places[1] == places[2]
    return found if same and sum(map(len, places)) == len(names) else None


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
