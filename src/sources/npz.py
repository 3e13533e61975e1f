"""The user's own arrays in npz files: one a split, shards, or one for all splits."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src.data.examples import Examples, PassedOver, Source
from src.data.lazy_images import Images
from src.data.shards import check_shard_folders, concatenate, find_shards, in_memory
from src.errors import DataError, shortened
from src.sources.arrays import SPLIT_OF, Array, to_images
from src.sources.labels import Labels, as_text, is_names, number_classes, to_labels
from src.sources.npz_files import (
    SAVE_ARRAYS,
    find_npz_files,
    is_pickle,
    pickle_error,
)
from src.storage.json_files import read_json
from src.storage.lazy_npz import locate_arrays
from src.storage.reading import check_inside

NAMES = ("class_names", "label_names")
ROLES = {
    **dict.fromkeys(("images", "image", "x"), "images"),
    **dict.fromkeys(("labels", "label", "y"), "labels"),
}
LAYOUTS = (
    "the arrays images and labels, or these with a split in each name, such as "
    "x_train, y_train, x_test, y_test or train_images, train_labels"
)


class Part(NamedTuple):
    """What one file holds of a split."""

    path: Path
    images: Array
    labels: Labels
    notes: list[str]  # the rules by which the images were converted


class NpzContent(NamedTuple):
    """What an npz file holds; the split "" has no split in the names of its arrays."""

    parts: dict[str, Part]
    class_names: list[str] | None


def load_npz(folder: Path) -> Source:
    """Reads `train.npz` and perhaps others, or one file that has all splits.

    The class names are from `manifest.json`, from an array `class_names` in the file
    of train, or from the labels.

    Args:
        folder: `data_path`; a file is read as the only file of its folder.

    Raises:
        DataError: there is no file of train, or a file is malformed.
        StorageError: the disk is full.
    """
    if folder.is_file():
        return load_files({"train": folder.name}, folder.parent, None, ())
    check_shard_folders(folder)
    files = find_npz_files(folder)
    names = read_manifest(folder / "manifest.json")
    unused = {path.name for path in folder.glob("[!.]*.npz")} - set(files.values())
    passed_over = [PassedOver(name, "not named like a split") for name in unused]
    return load_files(files, folder, names, sorted(passed_over))


def load_files(
    files: dict[str, str],
    folder: Path,
    names: list[str] | None,
    passed_over: Sequence[PassedOver],
) -> Source:
    """Reads the file of each split and its shards, or all splits from one file.

    Raises:
        DataError: a file is malformed, or has an unknown label.
        StorageError: the disk is full.
    """
    splits: dict[str, list[Part]] = {}
    for split, file in files.items():
        paths = [folder / each for each in (file, *find_shards(folder, split))]
        contents = [read_file(path, folder) for path in paths]
        if len(files) == len(paths) == 1 and "" not in contents[0].parts:
            splits = {name: [part] for name, part in contents[0].parts.items()}
        else:
            splits[split] = [only_part(each) for each in contents]
        if split == "train":
            names = names or contents[0].class_names
    return join_splits(splits, names)._replace(passed_over=passed_over)


def only_part(content: NpzContent) -> Part:
    """The images and labels of a file of one split.

    Raises:
        DataError: the file has the arrays of several splits.
    """
    if "" in content.parts:
        return content.parts[""]
    path = next(iter(content.parts.values())).path
    raise DataError(
        f"{path}: expected the arrays images and labels, found those of "
        f"{', '.join(content.parts)}, and files for other splits. Move one of both "
        "away."
    )


def join_splits(splits: dict[str, list[Part]], names: list[str] | None) -> Source:
    """Joins the parts of each split, and numbers the classes of all together.

    Raises:
        DataError: parts differ in shape, there is no train, or a label is unknown.
    """
    images: dict[str, Images] = {}
    labels = {}
    for split, parts in splits.items():
        joined = concatenate(
            [(part.path, Examples(part.images, part.labels.values)) for part in parts]
        )
        images[split] = joined.images
        labels[split] = parts[0].labels._replace(values=joined.labels)
    class_names, numbered = number_classes(labels, names)
    examples = {split: Examples(images[split], numbered[split]) for split in images}
    notes = {  # one for all shards
        f"{split}: {note}": None
        for split, parts in splits.items()
        for part in parts
        for note in part.notes
    }
    return Source.of_splits("npz", class_names, examples)._replace(notes=list(notes))


def read_file(path: Path, folder: Path) -> NpzContent:
    """Reads the labels; leaves the images on disk where that is possible.

    Raises:
        DataError: the file is missing, or its arrays have other names or forms.
        StorageError: the disk is full.
    """
    check_inside(path, folder)
    if is_pickle(path):
        raise pickle_error(path, path.with_suffix(".npz"))
    arrays = locate_arrays(path, SAVE_ARRAYS, text=True)
    names = [name for name in NAMES if name in arrays]
    class_names = read_names(in_memory(arrays.pop(names[0])), path) if names else None
    parts = {}
    for split, (image, label) in find_roles(list(arrays), path).items():
        where = f"{path}: {image}, {label}" if split else str(path)
        labels = to_labels(in_memory(arrays[label]), where)
        images, notes = to_images(arrays[image], len(labels.values), where)
        parts[split] = Part(path, images, labels, notes)
    return NpzContent(parts, class_names)


def find_roles(names: list[str], path: Path) -> dict[str, tuple[str, str]]:
    """The names of the arrays of images and of labels of each split.

    Raises:
        DataError: an array's name is unknown, or one is missing.
    """
    roles: dict[str, dict[str, str]] = {}
    for name in names:
        words = name.lower().split("_")
        split = [SPLIT_OF[word] for word in words if word in SPLIT_OF]
        role = [ROLES[word] for word in words if word in ROLES]
        known = len(role) == 1 and len(split) + 1 == len(words) <= 2
        of_split = roles.setdefault("".join(split) if known else name, {})
        of_split[role[0] if known and role[0] not in of_split else name] = name
    complete = all(sorted(each) == ["images", "labels"] for each in roles.values())
    one_or_all = set(roles) == {""} or ("" not in roles and "train" in roles)
    if not (complete and one_or_all):
        raise DataError(
            f"{path}: expected {LAYOUTS}, "
            f"found {', '.join(sorted(names)[:9]) or 'none'}. {SAVE_ARRAYS}"
        )
    return {split: (each["images"], each["labels"]) for split, each in roles.items()}


def read_names(array: np.ndarray, path: Path) -> list[str]:
    """Class names from an array of text.

    Raises:
        DataError: it is not a list of different names.
    """
    is_list = array.ndim == 1 and array.dtype.kind in "US"
    names = as_text(array, str(path)).tolist() if is_list else array.tolist()
    return check_names(names, f"{path}: class_names")


def read_manifest(path: Path) -> list[str] | None:
    """The class names in `manifest.json`; None if there is no such file.

    Raises:
        DataError: the file has no list of names.
    """
    if not os.path.lexists(path):
        return None
    check_inside(path, path.parent)
    names = read_json(path, SAVE_ARRAYS).get("class_names")
    return check_names(names, f"{path}: class_names")


def check_names(names: object, where: str) -> list[str]:
    """Raises DataError if `names` is not a list of different strings; returns it."""
    if not is_names(names):
        raise DataError(
            f"{where}: expected a list of different names, "
            f"found {shortened(names)}. {SAVE_ARRAYS}"
        )
    return names
