"""Which npz file in a folder has which split."""

import os
import re
from pathlib import Path

from src.data.shards import SPLITS, find_shards
from src.errors import DataError
from src.sources.arrays import SPLIT_OF
from src.storage.reading import open_regular

SAVE_ARRAYS = (
    "Save arrays images, uint8 [n, height, width, channels], and labels, integers [n], "
    "there with numpy.savez."
)
PICKLES = re.compile(r"\.(pkl|pickle|p|pt|pth)(\.gz|\.bz2|\.xz)?$")  # how names end
PICKLED = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))  # how they begin


def find_npz_files(folder: Path) -> dict[str, str]:
    """The name of each split's file; a single file of another name is train.

    Raises:
        DataError: there is no file of train, or a split has two.
    """
    found: dict[str, str] = {}
    for word, split in SPLIT_OF.items():
        # Not `exists`: a broken link must be an error, not a missing split.
        if os.path.lexists(folder / f"{word}.npz"):
            if split in found:
                raise DataError(
                    f"{folder}: expected one file of the {split} split, found "
                    f"{found[split]} and {word}.npz. Remove one."
                )
            found[split] = f"{word}.npz"
    for split in SPLITS:
        if find_shards(folder, split):
            found.setdefault(split, f"{split}.npz")
    others = sorted(path.name for path in folder.glob("[!.]*.npz"))
    if not found and len(others) == 1:
        return {"train": others[0]}
    if "train" not in found:
        raise no_train(folder, others)
    return found


def no_train(folder: Path, others: list[str]) -> DataError:
    """The error for a folder without `train.npz`, which names what is there."""
    path = folder / "train.npz"
    if others:
        return DataError(
            f"{path}: expected a file, found none, but {', '.join(others[:9])}. Rename "
            "the one of the training images to train.npz, or leave only one file."
        )
    files = sorted(each for each in folder.glob("*") if each.is_file())
    for file in files:
        if is_pickle(file):
            return pickle_error(file, path)
    arrays = [file.name for file in files if file.suffix == ".npy"]
    if arrays:
        return DataError(
            f"{path}: expected a file, found none, but {', '.join(arrays[:9])}. Put "
            f"images and labels into one file: numpy.savez('{path}', "
            "images=numpy.load(...), labels=numpy.load(...))"
        )
    return DataError(f"{path}: expected a file, found none. {SAVE_ARRAYS}")


def is_pickle(path: Path) -> bool:
    """Whether a file has a pickle's name or beginning; CIFAR's have no suffix."""
    if PICKLES.search(path.name):
        return True
    with open_regular(path, SAVE_ARRAYS) as file:
        return file.read(2) in PICKLED


def pickle_error(path: Path, target: Path) -> DataError:
    """The error for a pickle, with the way to arrays in `target`."""
    return DataError(
        f"{path}: expected arrays, found a pickle, which can run code and is never "
        "loaded here. If you trust it, load it in Python and save its arrays: "
        f"numpy.savez('{target}', images=images, labels=labels)"
    )
