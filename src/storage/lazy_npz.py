"""Arrays that stay in their npz files, which may be larger than memory.

Each file is checked as in `src.storage.npz`. Rows are read when they are needed.
"""

import io
import os
import struct
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from src.errors import DataError
from src.storage.npz import (
    MAX_HEADER,
    NOT_NPZ,
    LimitedFile,
    check_directory,
    not_npz,
    parse_header,
    parse_npy,
)
from src.storage.reading import check_file_digest, open_regular

# A zip member's local header: magic, length of the name, length of the extra field.
LOCAL_HEADER = struct.Struct("<4s22xHH")
CHUNK_BYTES = 1 << 20  # read at a time to compute a checksum


class OpenFile:
    """A file that stays open as long as this object exists."""

    def __init__(self, path: Path, repair: str, file: BinaryIO) -> None:
        """Duplicates the descriptor, so `file` may be closed afterwards.

        Args:
            path: of the file, for messages.
            repair: advice for the error message, a sentence.
            file: the open file.
        """
        self.path, self.repair = path, repair
        self.descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.descriptor)

    def cut_short(self) -> DataError:
        """The error for a file that is shorter than when it was opened."""
        return DataError(
            f"{self.path}: expected as many bytes as before, found fewer: the file was "
            f"truncated while it was read. {self.repair}"
        )


@dataclass(frozen=True, eq=False)
class LazyArray:
    """An array in a file, in row-major order, not in memory."""

    file: OpenFile
    offset: int  # bytes before the first number
    dtype: np.dtype
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def read(self) -> np.ndarray:
        """The whole array, in memory.

        Raises:
            DataError: the file is shorter than it was.
        """
        array = np.empty(self.shape, self.dtype)
        rest, offset = array.reshape(-1).view(np.uint8).data, self.offset
        while rest:
            count = os.preadv(self.file.descriptor, [rest], offset)
            if count == 0:
                raise self.file.cut_short()
            rest, offset = rest[count:], offset + count
        return array


def locate_arrays(
    path: Path, repair: str, sha256: str | None = None, text: bool = False
) -> dict[str, LazyArray | np.ndarray]:
    """Like `read_arrays`, but leaves arrays in the file where that is possible.

    Compressed and column-major arrays are read into memory.

    Args:
        path: the file; it stays open until its last `LazyArray` is gone.
        repair: advice for the error message, a sentence.
        sha256: the recorded digest; without one, the checksums in the zip are compared.
        text: whether arrays of text are allowed too.

    Raises:
        DataError: there is no such file, it was changed, or it is not an npz of plain
            arrays.
    """
    with open_regular(path, repair) as file:
        check_file_digest(path, file, repair, sha256)
        size = file.seek(0, io.SEEK_END)
        limited, opened = LimitedFile(file), OpenFile(path, repair, file)
        try:
            with ZipFile(limited) as archive:
                check_directory(archive.infolist(), size)
                limited.limit = size
                found: dict[str, LazyArray | np.ndarray] = {}
                for member in archive.infolist():
                    check_place(member, size)
                    name = member.filename.removesuffix(".npy")
                    stored = locate(archive, member, opened, text)
                    if stored is None:
                        content = archive.read(member)
                        found[name] = parse_npy(member.filename, content, text)
                        continue
                    if sha256 is None:
                        check_checksum(archive, member)
                    found[name] = stored
                return found
        except NOT_NPZ as error:
            raise not_npz(path, error, repair) from None


def check_place(member: ZipInfo, size: int) -> None:
    """Raises ValueError if a member is outside of a file of `size` bytes."""
    if not 0 <= member.header_offset <= size - LOCAL_HEADER.size:
        raise ValueError(f"{member.filename[:60]!r} outside of the file")


def locate(
    archive: ZipFile, member: ZipInfo, file: OpenFile, text: bool
) -> LazyArray | None:
    """A member as a lazy array; None if it is compressed or column-major.

    `text` is as for `locate_arrays`.

    Raises:
        ValueError: it is not an array of numbers, or exceeds the file; other errors of
            `NOT_NPZ` if its two headers in the zip differ.
    """
    if member.compress_type != ZIP_STORED:
        return None
    with archive.open(member) as content:  # also compares the two headers
        header = parse_header(
            member.filename, content.read(MAX_HEADER), member.file_size, text
        )
    at = member.header_offset
    magic, name, extra = LOCAL_HEADER.unpack(
        os.pread(file.descriptor, LOCAL_HEADER.size, at)
    )
    begin = at + LOCAL_HEADER.size + name + extra
    size = os.fstat(file.descriptor).st_size
    if magic != b"PK\3\4" or begin + member.file_size > size:
        raise ValueError(f"{member.filename[:60]!r} beyond the end of the file")
    if member.compress_size != member.file_size:
        raise ValueError(f"two sizes for {member.filename[:60]!r}")
    if header.order == "F":
        return None
    return LazyArray(file, begin + header.end, header.dtype, header.shape)


def check_checksum(archive: ZipFile, member: ZipInfo) -> None:
    """Raises BadZipFile if a member does not have its recorded checksum."""
    with archive.open(member) as content:
        while content.read(CHUNK_BYTES):
            pass
