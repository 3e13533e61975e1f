"""`data/prepared/files.csv`: where each example came from, and what was not used."""

from collections.abc import Mapping, Sequence

from src import paths
from src.data.examples import Origin, PassedOver
from src.storage.tables import csv_bytes, read_columns

COLUMNS = ("split", "row", "file", "group", "digest", "width", "height", "reason")


def files_csv(
    origins: Mapping[str, Sequence[Origin]], passed_over: Sequence[PassedOver]
) -> bytes:
    """The table: a row per example of each split, then a row per unused file.

    Args:
        origins: of each split, in the order of its rows.
        passed_over: files that prepare did not use; their `split` is empty.
    """
    rows = [
        (split, row, *origin, "")
        for split, column in origins.items()
        for row, origin in enumerate(column)
    ]
    rows += [("", "", each.file, "", "", "", "", each.reason) for each in passed_over]
    return csv_bytes(COLUMNS, rows)


def read_files(split: str) -> list[str]:
    """The file of each row of a split, relative to data_path; empty for arrays.

    Raises:
        DataError: the table is missing or damaged.
    """
    repair = "Prepare it again: dvc repro prepare"
    kinds = {"split": str, "row": str, "file": str}
    table = read_columns(paths.FILES, repair, kinds)
    rows = zip(table["split"], table["file"], strict=True)
    return [file for name, file in rows if name == split]
