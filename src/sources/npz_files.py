"""Which npz file in a folder has which split."""

import os
from pathlib import Path

from src.data.shards import SPLITS, find_shards
from src.errors import DataError
from src.sources.arrays import SPLIT_OF

SAVE_ARRAYS = (
    "Save arrays images, uint8 [n, height, width, channels], and labels, integers [n], "
    "there with numpy.savez."
)
PICKLES = (".pkl", ".pickle", ".p", ".pt", ".pth")


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
    names = sorted(each.name for each in folder.glob("*"))
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        return DataError(
            f"{path}: expected a file, found none, but {pickles[0]}, a pickle, which "
            "can run code and is never loaded here. If you trust it, load it in "
            "Python and save its arrays: numpy.savez("
            f"'{path}', images=images, labels=labels)"
        )
    arrays = [name for name in names if name.endswith(".npy")]
    if arrays:
        return DataError(
            f"{path}: expected a file, found none, but {', '.join(arrays[:9])}. Put "
            f"images and labels into one file: numpy.savez('{path}', "
            "images=numpy.load(...), labels=numpy.load(...))"
        )
    return DataError(f"{path}: expected a file, found none. {SAVE_ARRAYS}")
