"""Reads whole files with a size limit and compares their SHA-256."""

import hashlib
import io
import os
import re
import stat
from pathlib import Path

from src.errors import DataError

# A file in a DVC cache: DVC may place links to it in the data folder.
CACHED = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")

MAX_JSON_BYTES = 4 << 20  # ten thousand classes need one million
MAX_CSV_BYTES = 1 << 28  # a million epochs, or some million images


def open_regular(path: Path, repair: str) -> io.BufferedReader:
    """Opens a regular file for reading; reading a pipe or a device could block.

    Args:
        path: the file.
        repair: advice for the error message, a sentence.

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
    """Raises DataError if a link leads out of these folders and the project."""
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
        repair: advice for the error message, a sentence.
        limit: maximum size in bytes.
        sha256: the recorded digest, if there is one.

    Raises:
        DataError: there is no such file, it is too large, or its digest differs.
    """
    with open_regular(path, repair) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DataError(f"{path}: expected at most {limit} bytes, found more. {repair}")
    check_digest(path, content, repair, sha256)
    return content


def check_digest(path: Path, content: bytes, repair: str, sha256: str | None) -> None:
    """Raises DataError if the content does not have the recorded digest."""
    if sha256 is not None:
        compare_digests(path, digest(content), repair, sha256)


def check_file_digest(
    path: Path, file: io.BufferedReader, repair: str, sha256: str | None
) -> None:
    """Like `check_digest`, but reads an open file in pieces."""
    if sha256 is not None:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        compare_digests(path, found, repair, sha256)


def compare_digests(path: Path, found: str, repair: str, sha256: str) -> None:
    """Raises DataError if a digest is not the recorded one."""
    if found != sha256:
        raise DataError(
            f"{path}: expected SHA-256 {sha256[:12]}..., found {found[:12]}...: "
            f"the file was changed or damaged. {repair}"
        )


def digest(content: bytes | memoryview) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
