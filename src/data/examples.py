"""Examples, and what is done with whole splits of them: check, cut, compare."""

import hashlib
from typing import Any, NamedTuple

import numpy as np

from src.data.lazy_images import Images, LazyImages, pieces
from src.errors import DataError


class Examples(NamedTuple):
    """Images with their labels: a split in numpy, or a batch on the device."""

    images: Any  # uint8 [n, height, width, channels]; LazyImages where they are many
    labels: Any  # int32 [n], indices of classes


class Batch(NamedTuple):
    """What a step learns from: examples, and with mixup what is mixed into them."""

    images: Any  # uint8 [batch, height, width, channels]
    labels: Any  # int32 [batch]
    partners: Any = None  # int32 [batch], the labels of what was mixed in
    shares: Any = None  # float32 [batch], how much of each loss `labels` keeps


class Source(NamedTuple):
    """A data set as its source gives it; what is None is cut from `train`."""

    name: str
    version: str
    class_names: list[str]
    train: Examples
    validation: Examples | None
    test: Examples | None


def check_examples(split: Examples, classes: int, where: str) -> None:
    """Compares a split with the layout that every stage relies on.

    Raises:
        DataError: another type, rank or length, no example, or a label out of range.
    """
    check_layout(split, where)
    wrong = np.flatnonzero((split.labels < 0) | (split.labels >= classes))
    if len(wrong):
        raise DataError(
            f"{where}: labels: expected 0 to {classes - 1}, found {len(wrong)} others, "
            f"the first {split.labels[wrong[0]]} at index {wrong[0]}. Mend the labels."
        )


def check_layout(split: Examples, where: str) -> None:
    """As `check_examples`, whatever the labels.

    Raises:
        DataError: another type, rank or length, or no example.
    """
    images, labels = split
    for name, array, dtype, rank in (
        ("images", images, np.uint8, 4),
        ("labels", labels, np.int32, 1),
    ):
        if array.dtype != dtype or array.ndim != rank:
            raise DataError(
                f"{where}: {name}: expected {np.dtype(dtype)} with {rank} dimensions, "
                f"found {array.dtype} {list(array.shape)}. Convert the array."
            )
    if len(images) != len(labels):
        raise DataError(
            f"{where}: expected a label for each image, found {len(images)} images and "
            f"{len(labels)} labels. Write both anew."
        )
    if 0 in images.shape:
        raise DataError(
            f"{where}: images: expected at least one image with pixels, "
            f"found shape {list(images.shape)}. Write them anew."
        )
    if images.shape[3] not in (1, 3):
        raise DataError(
            f"{where}: images: expected 1 or 3 channels, grey or RGB, found "
            f"{images.shape[3]}. Convert them."
        )


def stratified_split(
    split: Examples, fraction: float, seed: tuple[int, ...]
) -> list[np.ndarray]:
    """Divides a split in two, each class in the same proportion.

    Args:
        split: the examples to divide.
        fraction: the share of the second part, in (0, 1).
        seed: fixes which examples go there, whatever their order of magnitude.

    Returns:
        The indices of the first and of the second part, each in rising order. A class
        of `n` examples gives `round(n * fraction)` of them, one at least, unless it has
        only one.
    """
    rng = np.random.default_rng(seed)
    taken = np.zeros(len(split.labels), bool)
    for label in np.unique(split.labels):
        members = rng.permutation(np.flatnonzero(split.labels == label))
        size = min(max(round(len(members) * fraction), 1), len(members) - 1)
        taken[members[:size]] = True
    return [np.flatnonzero(~taken), np.flatnonzero(taken)]


def select(split: Examples, rows: np.ndarray) -> Examples:
    """The examples at `rows`: indices, or a truth value for each."""
    images: Images = split.images
    stored = isinstance(images, LazyImages)
    return Examples(images.choose(rows) if stored else images[rows], split.labels[rows])


def image_hashes(images: Images) -> np.ndarray:
    """What tells images apart: uint64, one for all that are equal, rising.

    Ten million different images share one by chance in one case of 400,000.
    """
    digests = []
    for piece in pieces(images):
        flat = np.ascontiguousarray(piece).reshape(len(piece), -1)
        found = (hashlib.blake2b(image.data, digest_size=8).digest() for image in flat)
        digests.append(np.frombuffer(b"".join(found), np.uint64))
    return np.unique(np.concatenate(digests))


def data_warnings(train: Examples, test: Examples, class_names: list[str]) -> list[str]:
    """What is allowed and yet hardly meant, a sentence each."""
    low, high, constant = brightness(train.images)
    found = []
    counts = np.bincount(train.labels, minlength=len(class_names))
    missing = np.flatnonzero(counts == 0)
    if len(missing):
        names = ", ".join(class_names[number] for number in missing[:10])
        found.append(
            f"no training example of {names}: never predicted, "
            f"{int(np.isin(test.labels, missing).sum())} test examples are of such "
            "classes."
        )
    if high <= 1:
        found.append(
            f"pixels from {low} to {high}, expected 0 to 255: nearly "
            "black to the network. Multiply by 255."
        )
    if constant:
        found.append(f"{constant} training images of one value everywhere.")
    return found


def brightness(images: Images) -> tuple[int, int, int]:
    """The darkest pixel, the brightest, and how many images are of one value."""
    low, high, constant = 255, 0, 0
    for piece in pieces(images):
        low, high = min(low, int(piece.min())), max(high, int(piece.max()))
        flat = piece.reshape(len(piece), -1)
        constant += int((flat == flat[:, :1]).all(1).sum())
    return low, high, constant


def class_counts(split: Examples, class_names: list[str]) -> dict[str, int]:
    """How many examples each class has."""
    counts = np.bincount(split.labels, minlength=len(class_names))
    return dict(zip(class_names, counts.tolist(), strict=True))
