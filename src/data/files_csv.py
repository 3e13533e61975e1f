"""`data/prepared/files.csv`: where each example came from, and what was not used."""

import csv
import io
from collections.abc import Mapping, Sequence

from src import paths
from src.data.examples import Origin, PassedOver, SplitName
from src.errors import DataError, one_line
from src.storage.reading import read_bytes

COLUMNS = ("split", "row", "file", "group", "digest", "width", "height", "reason")
MAX_FILES_CSV = 1 << 30  # bytes: some million examples
PREPARE_AGAIN = "Prepare it again: dvc repro prepare"


def files_csv(
    sizes: Mapping[SplitName, int],
    origins: Mapping[SplitName, Sequence[Origin]],
    passed_over: Sequence[PassedOver],
) -> memoryview:
    """The table: a row per example of each split, then a row per unused file.

    Args:
        sizes: the number of examples of each split.
        origins: of each split, in the order of its rows; empty for arrays, whose rows
            have no file.
        passed_over: files that prepare did not use; their `split` is empty.
    """
    content = io.BytesIO()
    table = io.TextIOWrapper(content, "utf-8", newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    of_array = Origin()
    for split, size in sizes.items():
        column = origins.get(split)
        for row in range(size):
            writer.writerow((split, row, *(column[row] if column else of_array), ""))
    for each in passed_over:
        writer.writerow(("", "", each.file, "", "", "", "", each.reason))
    table.flush()
    table.detach()
    return content.getbuffer()


def read_files(split: str) -> list[str]:
    """The file of each row of a split, relative to data_path; empty for arrays.

    Raises:
        DataError: the table is missing or damaged.
    """
    return [file for (file,) in read_columns(split, "file")]


def read_origins(split: str) -> list[Origin]:
    """File and group of each row of a split, without the rest; empty for arrays.

    Raises:
        DataError: the table is missing or damaged.
    """
    rows = read_columns(split, "file", "group")
    return [Origin(file, group) for file, group in rows]


def read_columns(split: str, *names: str) -> list[tuple[str, ...]]:
    """The cells of some columns of each row of a split.

    Raises:
        DataError: the table is missing or damaged.
    """
    content = read_bytes(paths.FILES, PREPARE_AGAIN, MAX_FILES_CSV)
    table = io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="")
    try:
        reader = csv.DictReader(table)  # row by row: the table may be large
        return [
            tuple(row[name] for name in names)
            for row in reader
            if row["split"] == split
        ]
    except (KeyError, ValueError, csv.Error) as error:  # ValueError: no UTF-8
        raise DataError(
            f"{paths.FILES}: expected a table with split, {', '.join(names)}, found "
            f"{one_line(error)}. {PREPARE_AGAIN}"
        ) from None
