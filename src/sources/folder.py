"""The user's own pictures: class folders, or a table of labels."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from src.data.examples import Examples, Source
from src.errors import counted
from src.sources.class_folders import Picture
from src.sources.file_tree import display_name
from src.sources.label_table import CORRECTIONS
from src.sources.layout import find_layout
from src.sources.picture_splits import (
    Listed,
    PictureList,
    broken_pictures,
    read_splits,
)
from src.sources.read_pictures import PictureOptions


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
    label_of = {name: label for label, name in enumerate(class_names)}
    splits = {
        name: PictureList(len(pictures), partial(listed, folder, pictures, label_of))
        for name, pictures in layout.splits.items()
    }
    policy, read = read_splits(folder, splits, options)
    right = {
        display_name(path): label_of[label]
        for path, label in layout.corrections.items()
    }
    examples = {}
    for name, split in read.items():
        named = zip(split.origins, split.labels, strict=True)
        labels = [right.get(origin.file, label) for origin, label in named]
        examples[name] = Examples(split.images, np.array(labels, np.int32))
    corrects = f"{folder / CORRECTIONS}: corrects {counted(len(right), 'label')}."
    return Source.of_splits("folder", class_names, examples)._replace(
        origins={name: split.origins for name, split in read.items()},
        pictures=policy,
        passed_over=[*broken_pictures(read), *layout.passed_over],
        warnings=layout.warnings,
        notes=[corrects] if right else [],
        given_labels=np.array(read["train"].labels, np.int32) if right else None,
    )


def listed(
    folder: Path, pictures: Sequence[Picture], label_of: Mapping[str, int]
) -> Iterator[Listed]:
    """Lists the pictures of a split."""
    for path, label, group in pictures:
        name = display_name(path)
        yield Listed(name, folder / path, label_of[label], name, group)
