"""The embedded data set: 1,797 handwritten digits of 8x8 pixels.

Source: test part of "Optical Recognition of Handwritten Digits", E. Alpaydin and
C. Kaynak, UCI Machine Learning Repository, 1998, CC BY 4.0; data/raw/README.md.
"""

import gzip
import io
import zlib
from pathlib import Path

import numpy as np

from src.data.examples import Examples, Source, check_examples, select
from src.errors import DataError, one_line
from src.storage.reading import read_bytes

SIDE, GREYS, CLASSES = 8, 16, 10
MAX_UNPACKED = 1 << 20  # bytes; the file has a seventh of that
TEST_EVERY = 5  # every fifth image of a class, in the file's order, is a test image
RESTORE_DIGITS = "Restore it: git checkout -- data/raw"


def load_digits(folder: Path) -> Source:
    """Reads `digits.csv.gz`: a row an image, 64 pixels in [0, 16], then the label.

    The test split does not depend on the seed: it has the fifth, tenth, ... image of
    each digit, 355 in all.

    Raises:
        DataError: the file is missing or malformed.
    """
    path = folder / "digits.csv.gz"
    content = read_bytes(path, RESTORE_DIGITS, MAX_UNPACKED)
    try:
        with gzip.open(io.BytesIO(content)) as file:
            text = file.read(MAX_UNPACKED)
        if not text.strip():
            raise ValueError("an empty file")
        if len(text) == MAX_UNPACKED:
            raise ValueError(f"more than {MAX_UNPACKED} bytes in the table")
        table = np.loadtxt(io.BytesIO(text), np.int32, delimiter=",", ndmin=2)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(
            f"{path}: expected a gzipped table of integers, "
            f"found {one_line(error)}. {RESTORE_DIGITS}"
        ) from None
    pixels, labels = table[:, :-1], table[:, -1]
    if pixels.shape[1] != SIDE**2 or np.any((pixels < 0) | (pixels > GREYS)):
        raise DataError(
            f"{path}: expected rows of {SIDE**2} pixels from 0 to {GREYS} and a label, "
            f"found {table.shape[1]} columns with numbers from {table.min()} to "
            f"{table.max()}. {RESTORE_DIGITS}"
        )
    # 0 and 16 must map to exactly 0 and 255; values in between are rounded.
    images = ((pixels * 255 + GREYS // 2) // GREYS).astype(np.uint8)
    digits = Examples(images.reshape(-1, SIDE, SIDE, 1), labels)
    check_examples(digits, CLASSES, str(path))
    is_test = np.zeros(len(labels), bool)
    for digit in range(CLASSES):
        is_test[np.flatnonzero(labels == digit)[TEST_EVERY - 1 :: TEST_EVERY]] = True
    return Source(
        name="digits",
        version="1.0.0",
        class_names=[str(digit) for digit in range(CLASSES)],
        train=select(digits, ~is_test),
        validation=None,
        test=select(digits, is_test),
    )
