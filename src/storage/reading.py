"""Files of JSON and tables, written one way and read whole, with their digests.

JSON has sorted keys and finite numbers only: the same content gives the same bytes,
which is what DVC compares. What crosses from one stage to the next is checked.
"""

import hashlib
import io
import os
import re
import stat
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from src.errors import DataError

Record = TypeVar("Record", bound=BaseModel)


DECIMALS = 6  # of every number in metrics/: less is rounding noise, not a change


# A file in a cache of DVC, which may lie anywhere and be linked to.
CACHED = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")


MAX_JSON = 4 << 20  # bytes: ten thousand classes need one million


MAX_TABLE = 1 << 28  # bytes: a million epochs, or some million images


def opened(path: Path, repair: str) -> io.BufferedReader:
    """Opens a regular file for reading; a pipe or a device would be waited for.

    Args:
        path: the file.
        repair: what its reader should do when there is none, a sentence.

    Raises:
        DataError: there is no such file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        descriptor = -1
    if descriptor >= 0:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
    raise DataError(f"{path}: expected a file, found none. {repair}")


def check_inside(path: Path, *folders: Path) -> None:
    """Raises DataError where a link leads out of these folders and of this project."""
    real = path.resolve()
    if CACHED.search(str(real)):
        return
    if not any(real.is_relative_to(home.resolve()) for home in (*folders, Path())):
        raise DataError(
            f"{path}: expected a file of the data set, found a link to a file outside "
            f"of {folders[0]}. Copy the file there."
        )


def read_bytes(path: Path, repair: str, limit: int, sha256: str | None = None) -> bytes:
    """Reads a whole file.

    Args:
        path: the file.
        repair: what its reader should do when there is none, a sentence.
        limit: bytes that are enough for any file of its kind.
        sha256: the digest that was recorded when the file was written, if one was.

    Raises:
        DataError: there is no such file, it is longer, or its digest is another.
    """
    with opened(path, repair) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DataError(f"{path}: expected at most {limit} bytes, found more. {repair}")
    check_digest(path, content, repair, sha256)
    return content


def check_digest(path: Path, content: bytes, repair: str, sha256: str | None) -> None:
    """Raises DataError where a digest was recorded and the content has another."""
    if sha256 is not None:
        compare_digests(path, digest(content), repair, sha256)


def check_file_digest(
    path: Path, file: io.BufferedReader, repair: str, sha256: str | None
) -> None:
    """As `check_digest`, of an open file from where it stands, not read as a whole."""
    if sha256 is not None:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        compare_digests(path, found, repair, sha256)


def compare_digests(path: Path, found: str, repair: str, sha256: str) -> None:
    """Raises DataError where the digest that was found is not the recorded one."""
    if found != sha256:
        raise DataError(
            f"{path}: expected SHA-256 {sha256[:12]}..., found {found[:12]}...: "
            f"the file was changed or damaged. {repair}"
        )


def digest(content: bytes | memoryview) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
