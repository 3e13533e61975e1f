"""From listed pictures to splits of pixels, for folders and parquet files alike."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from threading import Event
from typing import NamedTuple

import numpy as np

from src.data.examples import Origin, PassedOver
from src.data.lazy_images import Images, ImageWriter
from src.data.pictures import KINDS, PicturePolicy
from src.data.summary import file_lines
from src.errors import BrokenFilesError, DataError
from src.runtime.progress import with_progress
from src.sources.read_pictures import (
    Broken,
    Content,
    Decoded,
    PictureOptions,
    decode_content,
    in_order,
    median_side,
    read_size,
    to_grey,
)

MAX_TRAINING_PIXELS = 4096 * 4096  # a batch of images must fit in memory


class Listed(NamedTuple):
    """A picture before it is read."""

    name: str  # relative to data_path, for messages
    content: Content
    label: int | str
    file: str  # for `Origin`
    group: str = ""


class PictureList(NamedTuple):
    """The pictures of a split, which may be listed several times."""

    size: int
    items: Callable[[], Iterator[Listed]]


class ReadSplit(NamedTuple):
    """The pictures of a split, read."""

    images: Images
    labels: list[int | str]
    origins: list[Origin]
    broken: list[tuple[str, Broken]]  # with their names


def read_splits(
    folder: Path, splits: Mapping[str, PictureList], options: PictureOptions
) -> tuple[PicturePolicy, dict[str, ReadSplit]]:
    """Reads the pictures of all splits; returns how it read them, too.

    Args:
        folder: `data_path`, or the folder of the only file.
        splits: the pictures.
        options: the size, the channels and so on.

    Raises:
        DataError: the sizes differ and `options.size` is None, or a split has no
            pictures.
        BrokenFilesError: a picture cannot be read, and `options.on_broken` is stop; or
            none of a split can.
        StorageError: the disk is full.
    """
    for name, pictures in splits.items():
        if not pictures.size:
            raise DataError(
                f"{folder}: expected pictures in the {name} split, found none. Add "
                "some, or remove its files."
            )
    policy, colour = choose_policy(folder, splits, options), Event()
    read = {
        name: read_split(pictures, policy, colour) for name, pictures in splits.items()
    }
    check_broken(folder, read, options)
    if options.channels == "auto" and not colour.is_set():
        policy = policy._replace(channels=1)
        read = {
            name: split._replace(images=to_grey(split.images))
            for name, split in read.items()
        }
    return policy, read


def choose_policy(
    folder: Path, splits: Mapping[str, PictureList], options: PictureOptions
) -> PicturePolicy:
    """How the pictures are read; without a given size, they must all have one.

    Raises:
        DataError: the sizes differ, or are too large.
    """
    if isinstance(options.size, int):
        return options.policy(options.size, options.size)
    if options.size is not None:
        return options.policy(*options.size)
    listed = (each for pictures in splits.values() for each in pictures.items())
    total = sum(pictures.size for pictures in splits.values())
    surveyed = in_order(survey, listed)
    found = [
        (name, size)
        for name, size in with_progress(surveyed, total, "sizes", "file")
        if not isinstance(size, Broken)
    ]
    if not found:  # reading the pictures will say why
        return options.policy(1, 1)
    first, (width, height) = found[0]
    sizes = [size for _, size in found]
    proposal = f"Set image_size: {median_side(sizes)} in params.yaml"
    others = [(name, size) for name, size in found if size != (width, height)]
    if others:
        odd, size = others[0]
        raise DataError(
            f"{folder / odd}: expected pictures of one size, {width} x {height} as in "
            f"{folder / first}, found {size[0]} x {size[1]}, {len(set(sizes))} sizes "
            f"in all. {proposal}."
        )
    if width * height > MAX_TRAINING_PIXELS:
        raise DataError(
            f"{folder}: expected pictures of at most {MAX_TRAINING_PIXELS} pixels, "
            f"found {width} x {height}. {proposal}."
        )
    return options.policy(height, width)


def survey(listed: Listed) -> tuple[str, tuple[int, int] | Broken]:
    """The name of a picture, and its width and height if they can be read."""
    return listed.name, read_size(listed.content)


def decode(
    listed: Listed, policy: PicturePolicy, colour: Event
) -> tuple[Listed, Decoded | Broken]:
    """The picture, and its listing without the content."""
    result = decode_content(listed.content, policy, colour)
    return listed._replace(content=b""), result


def read_split(
    pictures: PictureList, policy: PicturePolicy, colour: Event
) -> ReadSplit:
    """Reads the pictures of a split; leaves out unreadable ones.

    Sets `colour` if any of them has colours.

    Raises:
        StorageError: the disk is full.
    """
    writer = ImageWriter((pictures.size, *policy.size, policy.channels))
    labels: list[int | str] = []
    origins: list[Origin] = []
    broken: list[tuple[str, Broken]] = []
    task = partial(decode, policy=policy, colour=colour)
    results = in_order(task, pictures.items())
    for listed, result in with_progress(results, pictures.size, "pictures", "file"):
        if isinstance(result, Broken):
            broken.append((listed.name, result))
            continue
        writer.add(result.pixels[np.newaxis])
        labels.append(listed.label)
        sizes = result.width, result.height
        origins.append(Origin(listed.file, listed.group, result.digest, *sizes))
    return ReadSplit(writer.images(), labels, origins, broken)


def check_broken(
    folder: Path, read: Mapping[str, ReadSplit], options: PictureOptions
) -> None:
    """Checks that enough pictures could be read.

    Raises:
        BrokenFilesError: one could not, and `options.on_broken` is stop; or none of a
            split could.
    """
    broken = [each for split in read.values() for each in split.broken]
    empty = any(not split.origins for split in read.values())
    if not broken or (options.on_broken == "skip" and not empty):
        return
    them = "it" if len(broken) == 1 else "them"
    advice = (
        f"Replace or remove {them}, or set on_broken: skip, which lists {them} in "
        "data/prepared/files.csv."
    )
    if empty:
        advice = f"A split would be empty: replace {them}."
    name, first = broken[0]
    if len(broken) == 1:
        raise BrokenFilesError(
            f"{folder / name}: expected {KINDS}, found {first.reason}. {advice}", ()
        )
    count = len(broken) + sum(len(split.origins) for split in read.values())
    raise BrokenFilesError(
        f"{folder}: expected {count} pictures that can be read, found {len(broken)} "
        f"broken, first {name}. {advice}",
        file_lines(broken_pictures(read)),
    )


def broken_pictures(read: Mapping[str, ReadSplit]) -> list[PassedOver]:
    """The pictures of all splits that were left out."""
    return [
        PassedOver.broken(name, found.reason)
        for split in read.values()
        for name, found in split.broken
    ]
