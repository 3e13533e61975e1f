"""Parquet files of pictures and labels, as Hugging Face writes them."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
from pyarrow import parquet

from src.data.examples import PassedOver
from src.errors import DataError, one_line, shortened
from src.sources.arrays import SPLIT_OF
from src.sources.labels import LABEL_NAMES, is_names
from src.storage.npz import FREE_BYTES, MAX_RATIO
from src.storage.reading import check_inside, open_regular

PUT_FILES = (
    "Put train-00000-of-00001.parquet and so on there, or set data_path in params.yaml."
)
IMAGE_NAMES = ("image", "img", "picture")
SHARD = re.compile(r"-(\d{5})-of-(\d{5})")
READ_ROWS = 2  # at a time: a small page can repeat one large picture many times
PAGE_WINDOW = 1 << 20  # bytes of the file that are read at a time
DAMAGED = (pyarrow.ArrowException, OSError, ValueError, OverflowError)


class Columns(NamedTuple):
    """Which columns of a file have the pictures and the labels."""

    image: str
    label: str | None
    class_names: list[str] | None
    rows: int
    notes: list[str]  # the columns that were not chosen, a sentence each


class Row(NamedTuple):
    """A picture in a file."""

    content: bytes  # of the picture's file; empty if there is none
    file: str  # its name, perhaps empty
    label: int | str | None
    number: int  # counts the rows of the file, from 0


def find_parquet_files(folder: Path) -> tuple[dict[str, list[Path]], list[PassedOver]]:
    """The files of each split in `folder` or `folder/data`, and those of none.

    A file belongs to the split that its name begins with, up to `-`, `_` or `.`; if
    there is none, to the split that its folder is named after. A single file of another
    name is train, and so is a `folder` that is a file.

    Raises:
        DataError: there is no file of train, or one of several is missing.
    """
    if folder.is_file():
        return {"train": [folder]}, []
    found: dict[str, list[Path]] = {}
    unused = []
    inner = (*SPLIT_OF, "data", *(f"data/{word}" for word in SPLIT_OF))
    for home in (folder, *(folder / name for name in inner)):
        for path in sorted(home.glob("[!.]*.parquet")):
            word = re.split("[-_.]", path.name.lower())[0]
            split = SPLIT_OF.get(word) or SPLIT_OF.get(home.name)
            if split is None:
                name = str(path.relative_to(folder))
                unused.append(PassedOver(name, "not named like a split"))
            else:
                found.setdefault(split, []).append(path)
    if not found and len(unused) == 1:
        found["train"] = [folder / unused.pop().file]
    if "train" not in found:
        shown = ", ".join(file for file, _ in unused[:9]) or "no parquet file"
        raise DataError(
            f"{folder}: expected train-*.parquet here or in {folder / 'data'}, found "
            f"{shown}. {PUT_FILES}"
        )
    for paths in found.values():
        check_complete(paths)
    return found, unused


def check_complete(paths: list[Path]) -> None:
    """Checks the files of a split: all in one folder, and all of `00000-of-00003`.

    Raises:
        DataError: a file is missing, or there is one too many.
    """
    numbers = [SHARD.search(path.name) for path in paths]
    last = numbers[0]
    expected = list(range(int(last[2]))) if last else [-1] * len(paths)
    found = sorted(int(number[1]) if number else -1 for number in numbers)
    if found != expected or len({path.parent for path in paths}) > 1:
        shown = ", ".join(f"{path.parent.name}/{path.name}" for path in paths[:9])
        wanted = f"all of 00000 to {len(expected) - 1:05}" if last else "all files"
        raise DataError(
            f"{paths[0].parent}: expected {wanted} of a split, once and in one folder, "
            f"found {shown}. Add or remove files."
        )


def read_schema(path: Path, folder: Path) -> Columns:
    """Finds the columns of pictures and labels.

    Raises:
        DataError: the file is damaged, or the columns cannot be told.
    """
    check_inside(path, folder)
    with open_parquet(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        for number in range(metadata.num_row_groups):
            check_page_sizes(metadata.row_group(number))
        features = read_features(schema.metadata or {})
        pictures = [field.name for field in schema if is_picture(field.type)]
        labels = [field.name for field in schema if is_label(field, features)]
        rows = max(metadata.num_rows, 0)
    notes: list[str] = []
    pictures = prefer(pictures, IMAGE_NAMES, "pictures", notes)
    labels = prefer(labels, ("label",), "labels", notes)
    if len(pictures) != 1:
        raise wrong_schema(path, schema, "one column of pictures, named image")
    if len(labels) > 1 or pictures == labels:
        raise wrong_schema(path, schema, "one column of labels, named label")
    label = labels[0] if labels else None
    if label is not None:
        check_label_type(path, label, schema.field(label).type)
    names = features.get(label, {}).get("names") if label else None
    return Columns(pictures[0], label, names if is_names(names) else None, rows, notes)


def prefer(
    columns: list[str], names: Sequence[str], what: str, notes: list[str]
) -> list[str]:
    """Of several columns, those with a usual name; a choice is added to `notes`."""
    named = [column for column in columns if column in names]
    if len(columns) < 2 or not named:
        return columns
    others = ", ".join(column for column in columns if column not in named)
    notes.append(f"{', '.join(named)} is read as {what}, not {others}.")
    return named


def check_label_type(path: Path, name: str, kind: Any) -> None:  # noqa: ANN401
    """Raises DataError if a column of labels has neither integers nor text."""
    types = pyarrow.types
    found = kind.value_type if types.is_dictionary(kind) else kind
    tests = (types.is_integer, types.is_boolean, types.is_null, types.is_string)
    if any(test(found) for test in (*tests, types.is_large_string)):
        return
    repair = "Write one integer or text for each picture, its class."
    if types.is_floating(found):
        repair = f"Write integers: table['{name}'] = table['{name}'].astype(int)"
    raise DataError(
        f"{path}: expected integers or text in the column {name}, found {found}. "
        f"{repair}"
    )


def wrong_schema(path: Path, schema: Any, expected: str) -> DataError:  # noqa: ANN401
    """The error for a file in which a column cannot be told."""
    shown = ", ".join(shortened(field.name)[1:-1] for field in list(schema)[:12])
    return DataError(
        f"{path}: expected {expected}, found the columns {shown or 'none'}. Write the "
        "file with such a column."
    )


def check_page_sizes(group: Any) -> None:  # noqa: ANN401 - pyarrow has no types
    """Raises ValueError if a row group claims to unpack to implausibly many bytes."""
    for number in range(group.num_columns):
        column = group.column(number)
        packed, unpacked = column.total_compressed_size, column.total_uncompressed_size
        if unpacked > FREE_BYTES + MAX_RATIO * max(packed, 0):
            raise ValueError(f"{packed} bytes that claim to hold {unpacked}")


def read_features(metadata: dict[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """The features that Hugging Face describes in a schema; empty if none."""
    try:
        features = json.loads(metadata.get(b"huggingface", b""))["info"]["features"]
        return {key: each for key, each in features.items() if isinstance(each, dict)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def is_picture(kind: Any) -> bool:  # noqa: ANN401
    """Whether a column has the bytes of files, perhaps with their paths."""
    if pyarrow.types.is_struct(kind):
        names = [kind.field(index).name for index in range(kind.num_fields)]
        kind = kind.field("bytes").type if names.count("bytes") == 1 else kind
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def is_label(field: Any, features: dict[str, dict[str, Any]]) -> bool:  # noqa: ANN401
    """Whether a column is a ClassLabel of Hugging Face's, or is named like labels."""
    is_class = features.get(field.name, {}).get("_type") == "ClassLabel"
    return is_class or field.name.lower() in LABEL_NAMES


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """Opens a file, to be read in windows.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    with open_regular(path, PUT_FILES) as file:
        try:
            with parquet.ParquetFile(
                file, pre_buffer=False, buffer_size=PAGE_WINDOW
            ) as opened:
                yield opened
        except DAMAGED as error:
            raise DataError(
                f"{path}: expected a parquet file of pictures, found "
                f"{one_line(error)}. Download it again."
            ) from None


def read_rows(path: Path, columns: Columns) -> Iterator[Row]:
    """Yields the rows of a file, a few at a time.

    Raises:
        DataError: the file is damaged.
    """
    wanted = [columns.image, *([columns.label] if columns.label else [])]
    most = FREE_BYTES + MAX_RATIO * path.stat().st_size
    number = size = 0
    with open_parquet(path) as file:
        for batch in file.iter_batches(READ_ROWS, columns=wanted, use_threads=False):
            pictures = batch.column(columns.image).to_pylist()
            labels = [None] * len(pictures)
            if columns.label:
                labels = batch.column(columns.label).to_pylist()
            for picture, label in zip(pictures, labels, strict=True):
                row = to_row(picture, label, number)
                number, size = number + 1, size + len(row.content)
                if size > most:
                    raise ValueError(f"more than {most} bytes unpacked")
                yield row


def to_row(picture: object, label: int | str | None, number: int) -> Row:
    """A row from the values in its two columns."""
    parts = picture if isinstance(picture, dict) else {"bytes": picture}
    content, file = parts.get("bytes"), parts.get("path")
    return Row(
        content if isinstance(content, bytes) else b"",
        file if isinstance(file, str) else "",
        label,
        number,
    )
