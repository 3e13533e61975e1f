"""Which column has the labels in a table whose columns have no names."""

from pathlib import Path
from typing import NamedTuple

import pyarrow

from src.data.examples import MAX_CLASS_COUNT
from src.errors import DataError, one_line
from src.sources.csv_rows import NUMBER, Header, read_batches


class Column(NamedTuple):
    """A column of a table, and its different values; no more than could be classes."""

    name: str
    values: set[str]

    def is_text(self) -> bool:
        """Whether a value is no number."""
        return not all(map(NUMBER.fullmatch, self.values))

    def has_no_gap(self) -> bool:
        """Whether the values count from 0 or 1: the labels of most data sets do."""
        count = len(self.values)
        numbers = {int(value) for value in self.values if value.isdecimal()}
        return numbers in (set(range(count)), set(range(1, count + 1)))


def choose_end(path: Path, header: Header) -> tuple[str, str]:
    """Which column has the labels, the first or the last, and the rule that tells so.

    Labels have several values, on average in two rows or more. If that is so in both
    columns, labels are the text, or the numbers that count from 0 or 1 without a gap,
    if the other column has more values, and with gaps.

    Raises:
        DataError: neither column can have labels, or both; or a row is malformed.
    """
    rows, ends = read_ends(path, header)
    possible = [
        end for end in ends if 1 < len(end.values) <= min(rows / 2, MAX_CLASS_COUNT)
    ]
    texts = [end for end in possible if end.is_text()]
    counting = [end for end in possible if end.has_no_gap()]
    if len(texts) == 1:
        possible = texts
    elif len(possible) == 2 and len(counting) == 1:
        fewest = min(len(end.values) for end in possible)
        possible = counting if len(counting[0].values) == fewest else possible
    first, last = (len(end.values) for end in ends)
    found = f"distinct values: {first} in the first, {last} in the last"
    if len(possible) != 1:
        count = len(header.inner) - 1
        raise DataError(
            f"{path}: expected labels in either the first or the last column, as there "
            f"is no column named label, found {found}. Name the columns in the first "
            f"line: label,1,2,...,{count} or 1,2,...,{count},label"
        )
    which = "first" if possible[0] is ends[0] else "last"
    return possible[0].name, f"the {which} column is read as labels ({found})."


def read_ends(path: Path, header: Header) -> tuple[int, list[Column]]:
    """The number of rows, and the first and the last column.

    Raises:
        DataError: a row is malformed.
    """
    names = [header.inner[0], header.inner[-1]]
    ends, rows = [Column(name, set()) for name in names], 0
    types = {name: pyarrow.string() for name in names}
    try:
        for batch in read_batches(path, header, types):
            rows += len(batch)
            for name, values in ends:
                if len(values) <= MAX_CLASS_COUNT:
                    values |= set(batch.column(name).drop_null().unique().to_pylist())
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise DataError(
            f"{path}: expected rows of {len(header.names)} fields, found "
            f"{one_line(error)}. Save it again."
        ) from None
    return rows, ends
