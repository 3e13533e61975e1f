"""Examples, and operations on whole splits: check, split, select, hash, count."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from src.data.lazy_images import Images, LazyImages, pieces
from src.data.pictures import PicturePolicy
from src.errors import DataError, counted, shortened

DARK = 32  # no pixel is brighter: values of 12 bits in a file with 16, for example
IMBALANCE = 10  # times as many examples as the smallest class: worth a warning
MAX_CLASS_COUNT = 10_000
MAX_CLASS_NAME = 100  # characters
BROKEN = "broken"  # why a file that cannot be read was passed over

SplitName = Literal["train", "validation", "test"]


class Examples(NamedTuple):
    """Images with their labels: a split in numpy, or a batch on the device."""

    images: Any  # uint8 [n, height, width, channels]; LazyImages if left on disk
    labels: Any  # int32 [n], class indices


class Batch(NamedTuple):
    """A training batch, with what mixup, cutmix and class weights add."""

    images: Any  # uint8 [batch, height, width, channels]
    labels: Any  # int32 [batch]
    partners: Any = None  # int32 [batch], labels of the images mixed in
    shares: Any = None  # float32 [batch] in [0, 1], the share of `labels` in the loss
    weights: Any = None  # float32 [batch], the class weights of `labels`
    partner_weights: Any = None  # float32 [batch], the class weights of `partners`


class Origin(NamedTuple):
    """Where an example came from; a row of `data/prepared/files.csv`."""

    file: str = ""  # relative to data_path; empty: from an array
    group: str = ""  # a patient, artist or video, which is never in two splits
    digest: str = ""  # SHA-256 of the file
    width: int | None = None  # of the picture in the file, as viewers show it
    height: int | None = None


class PassedOver(NamedTuple):
    """A file that prepare did not use."""

    file: str  # relative to data_path
    reason: str  # such as "hidden", "no picture", "broken: truncated file"

    @classmethod
    def broken(cls, file: str, found: str) -> Self:
        """A file that cannot be read."""
        return cls(file, f"{BROKEN}: {found}")

    @property
    def kind(self) -> str:
        """The reason, without what was found in a broken file."""
        return BROKEN if self.reason.startswith(f"{BROKEN}: ") else self.reason


class Source(NamedTuple):
    """A data set from its source; a split that is None is split off from `train`."""

    name: str
    version: str
    class_names: list[str]
    train: Examples
    validation: Examples | None
    test: Examples | None
    origins: Mapping[str, Sequence[Origin]] | None = None  # of each split, by row
    pictures: PicturePolicy | None = None  # of a source of picture files
    passed_over: Sequence[PassedOver] = ()
    warnings: Sequence[str] = ()  # a sentence each: what is probably a mistake
    notes: Sequence[str] = ()  # a sentence each: the rules by which data was converted
    # int32 [n], of train before corrections: correcting a label moves no example to
    # another split. None: those of `train`.
    given_labels: np.ndarray | None = None

    @classmethod
    def of_splits(
        cls, name: str, class_names: list[str], splits: Mapping[str, Examples]
    ) -> Self:
        """A source without a version, of train and perhaps validation and test."""
        validation, test = splits.get("validation"), splits.get("test")
        return cls(name, "none", class_names, splits["train"], validation, test)


def check_class_names(where: str, class_names: Sequence[str]) -> None:
    """Raises DataError if there are too few or too many names, or an odd one."""
    if len(class_names) < 2:
        raise DataError(
            f"{where}: expected at least two classes, found only "
            f"{', '.join(class_names)}. Add images of another class."
        )
    for name in class_names[: MAX_CLASS_COUNT + 1]:
        if not (name.isprintable() and 0 < len(name) <= MAX_CLASS_NAME):
            raise DataError(
                f"{where}: expected class names of 1 to {MAX_CLASS_NAME} "
                f"characters, found {shortened(name)}. Rename it."
            )
    if len(class_names) > MAX_CLASS_COUNT:
        raise DataError(
            f"{where}: expected at most {MAX_CLASS_COUNT} classes, found "
            f"{len(class_names)}. Choose fewer."
        )


def check_examples(split: Examples, classes: int, where: str) -> None:
    """Checks that a split has the layout that every stage relies on.

    Args:
        split: the split.
        classes: labels must be in [0, classes).
        where: the file or split, for the message.

    Raises:
        DataError: the dtype, shape or a label is wrong, or there are no examples.
    """
    check_layout(split, where)
    wrong = np.flatnonzero((split.labels < 0) | (split.labels >= classes))
    if len(wrong):
        raise DataError(
            f"{where}: labels: expected 0 to {classes - 1}, found {len(wrong)} "
            f"outside, the first {split.labels[wrong[0]]} at index {wrong[0]}. Correct "
            "the labels."
        )


def check_layout(split: Examples, where: str) -> None:
    """Checks dtypes and shapes as `check_examples` does, but no labels.

    Raises:
        DataError: a dtype or shape is wrong, or there are no examples.
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
            f"{len(labels)} labels. Save both again."
        )
    if 0 in images.shape:
        raise DataError(
            f"{where}: images: expected at least one image with pixels, "
            f"found shape {list(images.shape)}. Save them again."
        )
    if images.shape[3] not in (1, 3):
        raise DataError(
            f"{where}: images: expected 1 or 3 channels, grey or RGB, found "
            f"{images.shape[3]}. Convert them."
        )


def select(split: Examples, rows: np.ndarray) -> Examples:
    """The examples at `rows`: indices, or a boolean for each example.

    `LazyImages` stay on disk.
    """
    return Examples(select_images(split.images, rows), split.labels[rows])


def select_images(images: Images, rows: np.ndarray) -> Images:
    """The images at `rows`, as for `select`."""
    return images.select(rows) if isinstance(images, LazyImages) else images[rows]


def image_hashes(images: Images) -> np.ndarray:
    """The 64-bit hash of each image, uint64 `[n]`; equal images have equal ones.

    The probability that two of ten million different images collide is 1 in 400,000.
    """
    digests = []
    for piece in pieces(images):
        flat = np.ascontiguousarray(piece).reshape(len(piece), -1)
        found = (hashlib.blake2b(image.data, digest_size=8).digest() for image in flat)
        digests.append(np.frombuffer(b"".join(found), np.uint64))
    return np.concatenate(digests)


def data_warnings(train: Examples, test: Examples, class_names: list[str]) -> list[str]:
    """Warnings, a sentence each: valid data that is probably a mistake."""
    low, high, constant = brightness(train.images)
    found = []
    counts = np.bincount(train.labels, minlength=len(class_names))
    missing = np.flatnonzero(counts == 0)
    if len(missing):
        names = ", ".join(class_names[number] for number in missing[:10])
        unseen = int(np.isin(test.labels, missing).sum())
        found.append(
            f"no training example of {names}: never predicted, though these "
            f"classes have {counted(unseen, 'test example')}."
        )
    if high < DARK:
        found.append(
            f"expected pixels from 0 to 255, found {low} to {high}: nearly black to "
            f"the network. Multiply the values in the files by {255 // max(high, 1)}."
        )
    if constant:
        images = counted(constant, "training image")
        found.append(f"{images} in which all pixels are equal.")
    present = np.flatnonzero(counts)
    most, least = (present[at(counts[present])] for at in (np.argmax, np.argmin))
    if counts[most] > IMBALANCE * counts[least]:
        found.append(
            f"classes of very different sizes: {class_names[most]} has {counts[most]} "
            f"training examples, {class_names[least]} {counts[least]}. Judge by the "
            "scores of each class, not by accuracy alone."
        )
    return found


def brightness(images: Images) -> tuple[int, int, int]:
    """Smallest and largest pixel, and the number of images of one constant value."""
    low, high, constant = 255, 0, 0
    for piece in pieces(images):
        low, high = min(low, int(piece.min())), max(high, int(piece.max()))
        flat = piece.reshape(len(piece), -1)
        constant += int((flat == flat[:, :1]).all(1).sum())
    return low, high, constant


def class_counts(split: Examples, class_names: list[str]) -> dict[str, int]:
    """The number of examples of each class."""
    counts = np.bincount(split.labels, minlength=len(class_names))
    return dict(zip(class_names, counts.tolist(), strict=True))
