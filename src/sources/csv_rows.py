"""Reads tables in CSV files: the names of the columns, and blocks of rows."""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
from pyarrow import csv as arrow_csv

from src.errors import DataError, one_line
from src.sources.labels import LABEL_NAMES
from src.storage.reading import open_regular

INDEX_NAMES = ("", "unnamed: 0", "id", "index")  # as pandas writes row numbers
SEPARATORS = ",;\t"
MAX_LINE = 4 << 20  # bytes; a million pixels of three digits
BLOCK_BYTES = 16 << 20  # parsed at a time
NUMBER = re.compile(r"[-+]?[0-9.]+(?:e[-+]?[0-9]+)?", re.IGNORECASE)
PUT_TABLE = "Put the table there."


class Header(NamedTuple):
    """The columns of a table."""

    names: list[str]  # numbers from 0 if the first line is a row
    is_line: bool  # whether the first line has names
    separator: str

    @property
    def inner(self) -> list[str]:
        """The columns that are no row numbers."""
        return [name for name in self.names if name.lower() not in INDEX_NAMES]

    @property
    def is_named(self) -> bool:
        """Whether the names are more than numbers."""
        return not all(map(str.isdecimal, self.inner))


def read_header(path: Path) -> Header:
    """Reads the first line, which has names or, without a header, is a row.

    It is a row if it has numbers, or numbers and one text at an end. Numbers that count
    the columns from 0 or 1 are names: pandas writes such a header.

    Raises:
        DataError: there is no such file, or it is no table of text.
    """
    with open_regular(path, PUT_TABLE) as file:
        line = file.readline(MAX_LINE)
    try:
        text = line.decode("utf-8-sig")
        if len(line) >= MAX_LINE:
            raise ValueError(f"a first line of over {MAX_LINE} bytes")
        separator = max(SEPARATORS, key=text.count)
        names = next(csv.reader([text], delimiter=separator, strict=True), [])
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"{path}: expected a table of text, separated by commas, found "
            f"{one_line(error)}. Save it as CSV in UTF-8."
        ) from None
    names = [name.strip() for name in names]
    if is_row(names):
        return Header([str(number) for number in range(len(names))], False, separator)
    return Header(names, True, separator)


def is_row(fields: list[str]) -> bool:
    """Whether the first line of a table is a row of it; see `read_header`."""
    odd = [index for index, field in enumerate(fields) if not NUMBER.fullmatch(field)]
    if not odd or (len(fields) > 1 and odd in ([0], [len(fields) - 1])):
        numbers = {field for field in fields if field.isdecimal()}
        counts = [{str(first + n) for n in range(len(numbers))} for first in (0, 1)]
        all_count = len(numbers) == len(fields) - len(odd) and numbers in counts
        return not all_count and not any(name.lower() in LABEL_NAMES for name in fields)
    return False


def read_batches(
    path: Path, header: Header, types: Mapping[str, Any]
) -> Iterator[pyarrow.RecordBatch]:
    """Yields blocks of rows, with the columns in `types` as these types of pyarrow.

    Raises:
        ArrowException: a row is malformed.
    """
    with open_regular(path, PUT_TABLE) as file:
        if header.is_line:
            file.readline()
        if not file.peek(1):
            return
        reader = arrow_csv.open_csv(
            file,
            read_options=arrow_csv.ReadOptions(
                block_size=BLOCK_BYTES,
                column_names=header.names,
                use_threads=False,  # so that errors name rows
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=header.separator),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        yield from reader
