"""Arrays that are left in their npz files: found with as much care as `src.npz` reads.

A file may be larger than memory. What lies in it row by row is read when it is needed.
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
    Frugal,
    check_directory,
    not_npz,
    parse_header,
    parse_npy,
)
from src.storage.reading import check_file_digest, opened

LOCAL = struct.Struct("<4s22xHH")  # before a member: its magic, sizes of name and extra
CHUNK = 1 << 20  # bytes of a member that are checked in one go


class Opened:
    """A file that stays open until nobody has this any more."""

    def __init__(self, path: Path, repair: str, file: BinaryIO) -> None:
        """Needs `file` no longer.

        Args:
            path: of the file, for messages.
            repair: what its reader should do when it is not what it was, a sentence.
            file: the file, open.
        """
        self.path, self.repair = path, repair
        self.descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.descriptor)

    def cut_short(self) -> DataError:
        """What to tell who reads beyond the end."""
        return DataError(
            f"{self.path}: expected as many bytes as before, found fewer: the file was "
            f"cut short meanwhile. {self.repair}"
        )


@dataclass(frozen=True, eq=False)
class LazyArray:
    """An array that lies in a file, row by row, and is not in memory."""

    file: Opened
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
    path: Path, repair: str, sha256: str | None = None
) -> dict[str, LazyArray | np.ndarray]:
    """As `read_arrays`, but leaves in the file what lies there row by row.

    However long the file, little of it is in memory at once. What is compressed, or
    lies column by column, is read.

    Args:
        path: the file; it stays open until the last `Stored` of it is gone.
        repair: what its reader should do when it is missing or broken, a sentence.
        sha256: the digest that was recorded when the file was written, if one was;
            without it, the checksums in the zip are compared.

    Raises:
        DataError: no file, another digest, or anything but an npz of plain arrays.
    """
    with opened(path, repair) as file:
        check_file_digest(path, file, repair, sha256)
        size = file.seek(0, io.SEEK_END)
        frugal, left = Frugal(file), Opened(path, repair, file)
        try:
            with ZipFile(frugal) as archive:
                check_directory(archive.infolist(), size)
                frugal.limit = size
                found: dict[str, LazyArray | np.ndarray] = {}
                for member in archive.infolist():
                    check_place(member, size)
                    name = member.filename.removesuffix(".npy")
                    stored = locate(archive, member, left)
                    if stored is None:
                        content = archive.read(member)
                        found[name] = parse_npy(member.filename, content)
                        continue
                    if sha256 is None:
                        check_sum(archive, member)
                    found[name] = stored
                return found
        except NOT_NPZ as error:
            raise not_npz(path, error, repair) from None


def check_place(member: ZipInfo, size: int) -> None:
    """Raises ValueError where a member lies outside of a file of `size` bytes."""
    if not 0 <= member.header_offset <= size - LOCAL.size:
        raise ValueError(f"{member.filename[:60]!r} outside of the file")


def locate(archive: ZipFile, member: ZipInfo, file: Opened) -> LazyArray | None:
    """Where a member's numbers lie; None where they are compressed or by column.

    Raises:
        ValueError: it is no array of numbers, or does not end in the file; others of
            `NOT_NPZ` where its two headers in the zip differ.
    """
    if member.compress_type != ZIP_STORED:
        return None
    with archive.open(member) as content:  # compares the headers
        header = parse_header(
            member.filename, content.read(MAX_HEADER), member.file_size
        )
    at = member.header_offset
    magic, name, extra = LOCAL.unpack(os.pread(file.descriptor, LOCAL.size, at))
    begin = at + LOCAL.size + name + extra
    size = os.fstat(file.descriptor).st_size
    if magic != b"PK\3\4" or begin + member.file_size > size:
        raise ValueError(f"{member.filename[:60]!r} beyond the end of the file")
    if member.compress_size != member.file_size:
        raise ValueError(f"two sizes for {member.filename[:60]!r}")
    if header.order == "F":
        return None
    return LazyArray(file, begin + header.end, header.dtype, header.shape)


def check_sum(archive: ZipFile, member: ZipInfo) -> None:
    """Raises BadZipFile where a member has another checksum than the directory says."""
    with archive.open(member) as content:
        while content.read(CHUNK):
            pass
