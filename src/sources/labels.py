"""The rules by which labels of other forms become classes 0 to n - 1."""

import sys
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple, TypeGuard

import numpy as np

from src.data.examples import MAX_CLASS_NAME
from src.errors import DataError, shortened

LABEL_NAMES = ("label", "labels", "class", "target", "y")  # of a column
NAMES_SHOWN = 9  # in a message
MAX_LETTER = 0x10FFFF  # the last code point of Unicode
LITTLE = sys.byteorder == "little"


class Labels(NamedTuple):
    """The labels of a split, before classes have numbers."""

    values: np.ndarray  # int64 or text [n]
    where: str  # the file, for messages
    classes: int | None = None  # columns of one-hot labels


def to_labels(array: np.ndarray, where: str) -> Labels:
    """Reads labels: integers or text `[n]` or `[n, 1]`, or one-hot rows `[n, k]`.

    Raises:
        DataError: the labels have another form.
    """
    found = f"found {array.dtype} {list(array.shape)}"
    one_column = array.ndim == 2 and array.shape[1] == 1
    flat = array.reshape(-1) if one_column else array
    if flat.ndim == 2 and flat.dtype.kind in "biuf":
        return from_one_hot(flat, where)
    if flat.ndim == 1 and flat.dtype.kind in "US":
        return Labels(as_text(flat, where), where)
    if flat.ndim == 1 and flat.dtype.kind in "biu":
        bounds = np.iinfo(np.int64)
        # Clipped, not wrapped: uint64 has numbers beyond int64.
        return Labels(flat.clip(None, bounds.max).astype(np.int64), where)
    whole = flat.dtype.kind == "f" and bool((flat == np.rint(flat)).all())
    repair = "labels = labels.astype(int)" if whole and flat.ndim == 1 else ""
    raise DataError(
        f"{where}: labels: expected integers with 1 dimension, {found}. "
        + (f"Convert them: {repair}" if repair else "Save one integer for each image.")
    )


def from_list(values: list[int] | list[str] | list[int | str], where: str) -> Labels:
    """Labels from a column of a table.

    Raises:
        DataError: a text is too long for the name of a class, or an integer for int64.
    """
    # Numpy gives each text the width of the longest.
    longest = max(
        (value for value in values if isinstance(value, str)), key=len, default=""
    )
    if len(longest) > MAX_CLASS_NAME:
        raise DataError(
            f"{where}: labels: expected class names of at most {MAX_CLASS_NAME} "
            f"characters, found {len(longest)}: {shortened(longest)}. Shorten it."
        )
    return to_labels(np.array(values), where)


def from_one_hot(rows: np.ndarray, where: str) -> Labels:
    """The column of the 1 in each row.

    Raises:
        DataError: a row has other numbers than one 1 and zeros.
    """
    ones = rows == 1
    wrong = np.flatnonzero((ones.sum(1) != 1) | ((rows != 0) & ~ones).any(1))
    if len(wrong):
        raise DataError(
            f"{where}: labels: expected integers with 1 dimension, or one 1 in each "
            f"row, found {rows.dtype} {list(rows.shape)}, row {wrong[0]} with "
            f"{shortened(rows[wrong[0]].tolist())}. Choose one class for each image: "
            "labels = labels.argmax(1)"
        )
    return Labels(ones.argmax(1).astype(np.int64), where, rows.shape[1])


def as_text(array: np.ndarray, where: str) -> np.ndarray:
    """Text of a fixed width as numpy's `str`, in Unicode's NFC; bytes are UTF-8.

    Raises:
        DataError: the bytes are no text.
    """
    try:
        if array.dtype.kind == "U":
            order = array.dtype.byteorder.replace("=", "<" if LITTLE else ">")
            letters = np.ascontiguousarray(array).reshape(-1).view(f"{order}u4")
            if letters.max(initial=0) > MAX_LETTER:
                raise ValueError("no letter")  # numpy would raise SystemError
        found = [
            item.decode() if isinstance(item, bytes) else item
            for item in array.reshape(-1).tolist()
        ]
    except ValueError:
        raise DataError(
            f"{where}: expected text in UTF-8, found other bytes. "
            "Save it as an array of str."
        ) from None
    # An accented letter may be one code point in one split and two in another.
    return np.array([unicodedata.normalize("NFC", text) for text in found], str)


def number_classes(
    splits: Mapping[str, Labels], names: list[str] | None
) -> tuple[list[str], dict[str, np.ndarray]]:
    """The class names, and the labels of each split as int32 in [0, classes).

    With names, label 0 is the first name. If the labels run from 1 to the number of
    names, label 1 is. Without names, the distinct labels of train are the classes,
    sorted and named by themselves; of one-hot labels, the columns are.

    Raises:
        DataError: a split has a label that is not among the classes.
    """
    train = splits["train"]
    if names:
        names = [unicodedata.normalize("NFC", name) for name in names]
    is_text = train.values.dtype.kind == "U"
    if is_text:
        known = np.array(names) if names else np.unique(train.values)
    elif names is None:
        columns = train.classes
        known = np.arange(columns) if columns else np.unique(train.values)
    else:
        return names, number_by_names(splits, len(names))
    numbered = {
        name: find_positions(labels, known, train.where)
        for name, labels in splits.items()
    }
    return [str(label) for label in known.tolist()], numbered


def number_by_names(splits: Mapping[str, Labels], count: int) -> dict[str, np.ndarray]:
    """Integer labels of classes with names, counted from 0; see `number_classes`.

    Labels out of range stay so; `check_examples` refuses them.
    """
    low = min(labels.values.min(initial=count) for labels in splits.values())
    high = max(labels.values.max(initial=0) for labels in splits.values())
    first = 1 if low >= 1 and high == count else 0
    bounds = np.iinfo(np.int32)
    return {
        name: (labels.values - first).clip(bounds.min, bounds.max).astype(np.int32)
        for name, labels in splits.items()
    }


def find_positions(labels: Labels, known: np.ndarray, train: str) -> np.ndarray:
    """The position of each label in `known`, int32 `[n]`.

    Raises:
        DataError: a label is not there.
    """
    values, where, _ = labels
    if values.dtype.kind != known.dtype.kind:
        raise DataError(
            f"{where}: labels: expected {known.dtype} as in {train}, found "
            f"{values.dtype}. Save both alike."
        )
    order = np.argsort(known)
    at = np.searchsorted(known, values, sorter=order).clip(max=len(known) - 1)
    positions = order[at]
    wrong = np.flatnonzero(known[positions] != values)
    if len(wrong):
        shown = ", ".join(map(str, known[:NAMES_SHOWN].tolist()))
        more = ", ..." if len(known) > NAMES_SHOWN else ""
        raise DataError(
            f"{where}: labels: expected one of the {len(known)} classes in {train} "
            f"({shown}{more}), found {len(wrong)} others, the first "
            f"{shortened(values[wrong[0]].item())} at index {wrong[0]}. Remove these "
            "examples, or add such examples to train."
        )
    return positions.astype(np.int32)


def is_names(value: object) -> TypeGuard[list[str]]:
    """Whether `value` is a list of at least one string, all different."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(name, str) and name for name in value)
        and len(set(value)) == len(value)
    )
