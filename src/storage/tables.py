"""CSV files."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.errors import DataError, one_line
from src.storage.json_files import rounded
from src.storage.reading import MAX_CSV_BYTES, read_bytes


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A CSV file; floats are rounded as in the metrics."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([rounded(value) for value in row] for row in rows)
    return table.getvalue().encode()


def read_columns(
    path: Path,
    repair: str,
    kinds: Mapping[str, Callable[[str], Any]],
    sha256: str | None = None,
) -> dict[str, list[Any]]:
    """Reads columns of a CSV file.

    Args:
        path: the file.
        repair: advice for the error message, a sentence.
        kinds: by column, the function that parses a cell.
        sha256: the recorded digest, if there is one.

    Raises:
        DataError: the file is missing, was changed, or lacks a column or a row.
    """
    content = read_bytes(path, repair, MAX_CSV_BYTES, sha256)
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
        if not rows:
            raise ValueError("no rows")
        return {name: [kind(row[name]) for row in rows] for name, kind in kinds.items()}
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataError(
            f"{path}: expected a table with {', '.join(kinds)}, found "
            f"{one_line(error)}. {repair}"
        ) from None
