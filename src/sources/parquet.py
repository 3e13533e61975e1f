"""Data sets of Hugging Face in parquet files: a column of pictures, one of labels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import NamedTuple

import numpy as np

from src.data.examples import Examples, Origin, PassedOver, Source
from src.data.lazy_images import Images, ImageWriter
from src.data.picture_facts import read_upright_size
from src.data.pictures import KINDS, PictureError, PicturePolicy
from src.errors import DataError
from src.sources.labels import from_list, number_classes
from src.sources.parquet_files import (
    Columns,
    Row,
    find_parquet_files,
    read_rows,
    read_schema,
)
from src.sources.read_pictures import (
    Broken,
    Decoded,
    PictureOptions,
    decode_content,
    in_order,
    median_side,
    quiet_pillow,
    to_grey,
    with_progress,
)

NAMED_PICTURES = 10  # broken pictures in a message
HIDDEN = (None, -1)  # Hugging Face's label of a test set without labels
Table = tuple[Path, Columns]


class ParquetSplit(NamedTuple):
    """The pictures of a split, read. Labels are not numbered yet."""

    images: Images
    labels: list[int | str]
    where: str  # the first file
    origins: list[Origin]
    broken: list[PassedOver]


def load_parquet(folder: Path, options: PictureOptions) -> Source:
    """Reads `train-*.parquet`, and perhaps `validation-*` and `test-*`.

    The class names are those of the ClassLabel in the schema; without them, the
    distinct labels.

    Args:
        folder: `data_path`; the files may be in its folder `data`.
        options: the size, the channels and so on.

    Raises:
        DataError: files are missing or damaged, pictures cannot be read, or sizes
            differ and `options.size` is None.
        StorageError: the disk is full.
    """
    files, passed_over = find_parquet_files(folder)
    tables = {
        split: [(path, read_schema(path, folder)) for path in paths]
        for split, paths in files.items()
    }
    for split in [name for name in tables if name != "train"]:
        if not has_labels(tables[split]):
            reason = "no labels, so it cannot be scored"
            names = [str(path.relative_to(folder)) for path, _ in tables.pop(split)]
            passed_over += [PassedOver(name, reason) for name in names]
    class_names = common_names(tables)
    with quiet_pillow():
        policy, colour = policy_of_tables(folder, tables, options), Event()
        read = {
            name: read_tables(each, policy, colour) for name, each in tables.items()
        }
    if options.channels == "auto" and not colour.is_set():
        policy = policy._replace(channels=1)
        read = {
            name: split._replace(images=to_grey(split.images))
            for name, split in read.items()
        }
    broken = [each for split in read.values() for each in split.broken]
    check_readable(folder, broken, read, options)
    source = number_splits(read, class_names, policy)
    return source._replace(passed_over=[*broken, *passed_over])


def number_splits(
    read: Mapping[str, ParquetSplit],
    names: list[str] | None,
    policy: PicturePolicy,
) -> Source:
    """Numbers the classes.

    Raises:
        DataError: a label is not among the classes.
    """
    raw = {name: from_list(split.labels, split.where) for name, split in read.items()}
    class_names, labels = number_classes(raw, names)
    examples = {
        name: Examples(split.images, labels[name]) for name, split in read.items()
    }
    return Source.of_splits("parquet", class_names, examples)._replace(
        origins={name: split.origins for name, split in read.items()},
        pictures=policy,
    )


def has_labels(tables: Sequence[Table]) -> bool:
    """Whether a split has a column of labels, and not all of them are hidden."""
    if any(columns.label is None for _, columns in tables):
        return False
    rows = (row for table in tables for row in read_rows(*table))
    return any(row.label not in HIDDEN for row in rows)


def common_names(tables: Mapping[str, Sequence[Table]]) -> list[str] | None:
    """The class names in the files.

    Raises:
        DataError: there is no column of labels, or two files have different names.
    """
    first, columns = tables["train"][0]
    for path, other in (table for each in tables.values() for table in each):
        if other.label is None:
            raise DataError(
                f"{path}: expected one column of labels, named label, found none. "
                "Write the file with such a column."
            )
        if other.class_names != columns.class_names:
            raise DataError(
                f"{path}: expected the class names of {first}, found others. "
                "Write both files with the same ClassLabel."
            )
    return columns.class_names


def policy_of_tables(
    folder: Path, tables: Mapping[str, Sequence[Table]], options: PictureOptions
) -> PicturePolicy:
    """How the pictures are read; without a given size, they must all have one.

    Raises:
        DataError: the sizes differ, or no picture can be read.
    """
    if isinstance(options.size, int):
        return options.policy(options.size, options.size)
    if options.size is not None:
        return options.policy(*options.size)
    rows = (
        row for each in tables.values() for table in each for row in read_rows(*table)
    )
    found = [
        (place, size) for place, size in in_order(survey_row, rows) if size is not None
    ]
    if not found:
        return options.policy(1, 1)  # reading the pictures will say what is wrong
    sizes = [size for _, size in found]
    (width, height), _ = Counter(sizes).most_common(1)[0]
    for place, size in found:
        if size != (width, height):
            raise DataError(
                f"{folder}: expected pictures of one size, {width} x {height} as most "
                f"are, found {size[0]} x {size[1]} in {place}, and {len(set(sizes))} "
                f"sizes in all. Set image_size: {median_side(sizes)} in params.yaml."
            )
    return options.policy(height, width)


def survey_row(row: Row) -> tuple[str, tuple[int, int] | None]:
    """The place of a picture, and its width and height if they can be read."""
    try:
        return row.place, read_upright_size(row.content)
    except PictureError:
        return row.place, None


def read_tables(
    tables: Sequence[Table], policy: PicturePolicy, colour: Event
) -> ParquetSplit:
    """Reads the pictures of a split; leaves out unreadable ones.

    Sets `colour` if any of them has colours.

    Raises:
        DataError: a file is damaged.
        StorageError: the disk is full.
    """
    count = sum(columns.rows for _, columns in tables)
    writer = ImageWriter((count, *policy.size, policy.channels))
    labels: list[int | str] = []
    origins: list[Origin] = []
    broken: list[PassedOver] = []
    rows = (row for table in tables for row in read_rows(*table))
    results = in_order(partial(decode_row, policy=policy, colour=colour), rows)
    for row, result in with_progress(results, count, "pictures"):
        if isinstance(result, Broken):
            name = f"{row.place} {row.file}".strip()
            broken.append(PassedOver(name, f"broken: {result.reason}"))
            continue
        if row.label is None:
            raise DataError(
                f"{tables[0][0].parent}: expected a label in {row.place}, found none. "
                "Write the file without this row."
            )
        writer.add(result.pixels[np.newaxis])
        labels.append(row.label)
        origins.append(Origin(row.file, "", result.digest, result.width, result.height))
    images, where = writer.images(), str(tables[0][0])
    return ParquetSplit(images, labels, where, origins, broken)


def decode_row(
    row: Row, policy: PicturePolicy, colour: Event
) -> tuple[Row, Decoded | Broken]:
    """The row without the content of the picture's file, and the picture."""
    if not row.content:
        only_path = f"only a path, {row.file}" if row.file else "an empty field"
        return row, Broken(only_path)
    return row._replace(content=b""), decode_content(row.content, policy, colour)


def check_readable(
    folder: Path,
    broken: Sequence[PassedOver],
    read: Mapping[str, ParquetSplit],
    options: PictureOptions,
) -> None:
    """Raises DataError if a picture must not be left out, or a split would be empty."""
    empty = [name for name, split in read.items() if not split.origins]
    if not empty and (not broken or options.on_broken == "skip"):
        return
    if not broken:
        raise DataError(
            f"{folder}: expected pictures in {empty[0]}, found none. Remove its files."
        )
    count = len(broken) + sum(len(split.origins) for split in read.values())
    shown = "; ".join(
        f"{each.file}: {each.reason.removeprefix('broken: ')}"
        for each in broken[:NAMED_PICTURES]
    )
    advice = "A split would be empty: write the files again."
    if not empty:
        advice = "Write the files without them, or set on_broken: skip."
    raise DataError(
        f"{folder}: expected {KINDS}, found {len(broken)} of {count} that cannot be "
        f"read: {shown}. {advice}"
    )
