"""The user's own pictures: class folders, or a table of labels."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import NamedTuple

import numpy as np

from src.data.examples import Examples, Origin, PassedOver, Source
from src.data.lazy_images import ImageWriter
from src.data.pictures import KINDS, PicturePolicy
from src.data.summary import file_lines
from src.errors import BrokenFilesError, DataError
from src.sources.class_folders import Picture
from src.sources.file_tree import display_name
from src.sources.layout import Layout, find_layout
from src.sources.read_pictures import (
    Broken,
    PictureOptions,
    decode_file,
    in_order,
    median_side,
    quiet_pillow,
    survey,
    to_grey,
    with_progress,
)

MAX_TRAINING_PIXELS = 4096 * 4096  # a batch of images must fit in memory


class ReadSplit(NamedTuple):
    """The pictures of a split, read."""

    examples: Examples
    origins: list[Origin]
    broken: list[PassedOver]


def load_folder(folder: Path, options: PictureOptions) -> Source:
    """Reads the pictures in a folder.

    Args:
        folder: `data_path`; `find_layout` describes the supported layouts.
        options: the size, the channels and so on.

    Raises:
        DataError: the layout is not supported, a picture cannot be read, or the sizes
            differ and `options.size` is None.
        StorageError: the disk is full.
    """
    layout = find_layout(folder)
    class_names = layout.class_names()
    with quiet_pillow():
        policy, colour = choose_policy(folder, layout, options), Event()
        read = {
            name: read_split(folder, pictures, class_names, policy, colour)
            for name, pictures in layout.splits.items()
        }
    broken = [each for split in read.values() for each in split.broken]
    check_broken(folder, broken, read, options)
    examples = {name: split.examples for name, split in read.items()}
    if options.channels == "auto" and not colour.is_set():
        policy = policy._replace(channels=1)
        for name, split in examples.items():
            examples[name] = Examples(to_grey(split.images), split.labels)
    return Source.of_splits("folder", class_names, examples)._replace(
        origins={name: split.origins for name, split in read.items()},
        pictures=policy,
        passed_over=[*broken, *layout.passed_over],
        warnings=layout.warnings,
    )


def choose_policy(
    folder: Path, layout: Layout, options: PictureOptions
) -> PicturePolicy:
    """How the pictures are read; without a given size, they must all have one.

    Raises:
        DataError: the sizes differ, or are too large.
    """
    if isinstance(options.size, int):
        return options.policy(options.size, options.size)
    if options.size is not None:
        return options.policy(*options.size)
    paths = [each.path for pictures in layout.splits.values() for each in pictures]
    results = in_order(survey, (folder / path for path in paths))
    found = list(with_progress(results, len(paths), "sizes"))
    sizes = [size for size in found if not isinstance(size, Broken)]
    if not sizes:  # reading the pictures will say why
        return options.policy(1, 1)
    first, *others = dict.fromkeys(sizes)
    width, height = first
    proposal = f"Set image_size: {median_side(sizes)} in params.yaml"
    if others:
        odd, same = (paths[found.index(size)] for size in (others[0], first))
        raise DataError(
            f"{folder / odd}: expected pictures of one size, {width} x {height} as in "
            f"{folder / same}, found {others[0][0]} x {others[0][1]}, "
            f"{len(others) + 1} sizes in all. {proposal}."
        )
    if width * height > MAX_TRAINING_PIXELS:
        raise DataError(
            f"{folder}: expected pictures of at most {MAX_TRAINING_PIXELS} pixels, "
            f"found {width} x {height}. {proposal}."
        )
    return options.policy(height, width)


def read_split(
    folder: Path,
    pictures: Sequence[Picture],
    class_names: Sequence[str],
    policy: PicturePolicy,
    colour: Event,
) -> ReadSplit:
    """Reads the pictures of a split; leaves out unreadable ones.

    Sets `colour` if any of them has colours.

    Raises:
        StorageError: the disk is full.
    """
    label_of = {name: label for label, name in enumerate(class_names)}
    writer = ImageWriter((len(pictures), *policy.size, policy.channels))
    labels: list[int] = []
    origins: list[Origin] = []
    broken: list[PassedOver] = []
    files = (folder / picture.path for picture in pictures)
    results = in_order(partial(decode_file, policy=policy, colour=colour), files)
    shown = with_progress(results, len(pictures), "pictures")
    for (path, label, group), result in zip(pictures, shown, strict=True):
        file = display_name(path)
        if isinstance(result, Broken):
            broken.append(PassedOver(file, f"broken: {result.reason}"))
            continue
        writer.add(result.pixels[np.newaxis])
        labels.append(label_of[label])
        sizes = result.width, result.height
        origins.append(Origin(file, group, result.digest, *sizes))
    examples = Examples(writer.images(), np.array(labels, np.int32))
    return ReadSplit(examples, origins, broken)


def check_broken(
    folder: Path,
    broken: Sequence[PassedOver],
    read: Mapping[str, ReadSplit],
    options: PictureOptions,
) -> None:
    """Checks that enough pictures could be read.

    Raises:
        BrokenFilesError: one could not, and `options.on_broken` is stop; or none of a
            split could.
    """
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
    if len(broken) == 1:
        reason = broken[0].reason.removeprefix("broken: ")
        where = folder / broken[0].file
        raise BrokenFilesError(
            f"{where}: expected {KINDS}, found {reason}. {advice}", ()
        )
    count = len(broken) + sum(len(split.origins) for split in read.values())
    raise BrokenFilesError(
        f"{folder}: expected {count} pictures that can be read, found {len(broken)} "
        f"broken, first {broken[0].file}. {advice}",
        file_lines(broken),
    )
