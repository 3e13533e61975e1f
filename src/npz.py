"""Arrays in npz files: written as numpy does, read as if a stranger had written them.

An npz is a zip of npy files. Each may lie: its directory about sizes, a header about a
shape, and either may ask for a pickle to be run. So nothing is read before the zip's
directory was found small and true to the file's size, and no array is made that is
larger than the bytes that are there. `numpy.load` is not used: it believes headers.
"""

import io
import math
import os
import re
import struct
import weakref
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from src.errors import DataError
from src.files import check_digest, check_file_digest, digest, one_line, opened
from src.storage import write_bytes

MAX_MEMBERS = 10_000
MAX_DIRECTORY = 4 << 20  # bytes of a zip's directory: as many members with long names
MAGIC = b"\x93NUMPY\1\0"
MAX_HEADER = 1_000  # bytes until an npy file's numbers begin: enough for any shape
MAX_RATIO = 100  # unpacked bytes per packed byte; labels in a row reach 1,000, so
FREE = 32 << 20  # as many bytes may come from next to nothing
LOCAL = struct.Struct("<4s22xHH")  # before a member: its magic, sizes of name and extra
CHUNK = 1 << 20  # bytes of a member that are checked in one go
# As numpy writes it. Booleans, integers and floats: nothing is run to read them.
HEADER = re.compile(
    rb"\{'descr': ?'([|<>=](?:b1|[iu][1248]|f[248]))', ?"
    rb"'fortran_order': ?(True|False), ?'shape': ?\(([0-9, ]*)\),? ?\}\s*"
)

NOT_NPZ = (
    ValueError,
    EOFError,
    OverflowError,
    NotImplementedError,
    BadZipFile,
    zlib.error,
)


class Header(NamedTuple):
    """What an npy file says of its array."""

    dtype: np.dtype
    order: Literal["C", "F"]
    shape: tuple[int, ...]
    end: int  # bytes of the header, where the numbers begin


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
class Stored:
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


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Writes an uncompressed npz, which can be memory-mapped; returns its SHA-256."""
    content = pack_arrays(arrays)
    write_bytes(path, content)
    return digest(content)


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> memoryview:
    """The bytes of an uncompressed npz: the same arrays, the same bytes."""
    buffer = io.BytesIO()
    # Not `ascontiguousarray`, which makes a number a list of one.
    contiguous = {name: np.asarray(arrays[name], order="C") for name in arrays}
    np.savez(buffer, allow_pickle=False, **contiguous)
    return buffer.getbuffer()


def read_arrays(
    path: Path, repair: str, sha256: str | None = None
) -> dict[str, np.ndarray]:
    """Reads every array of an npz; they cannot be written to.

    Args:
        path: the file.
        repair: what its reader should do when it is missing or broken, a sentence.
        sha256: the digest that was recorded when the file was written, if one was.

    Raises:
        DataError: no file, another digest, or anything but an npz of plain arrays.
    """
    content = read_packed(path, repair)
    check_digest(path, content, repair, sha256)
    return unpack_arrays(path, content, repair)


def locate_arrays(
    path: Path, repair: str, sha256: str | None = None
) -> dict[str, Stored | np.ndarray]:
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
                found: dict[str, Stored | np.ndarray] = {}
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


def locate(archive: ZipFile, member: ZipInfo, file: Opened) -> Stored | None:
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
    return Stored(file, begin + header.end, header.dtype, header.shape)


def check_sum(archive: ZipFile, member: ZipInfo) -> None:
    """Raises BadZipFile where a member has another checksum than the directory says."""
    with archive.open(member) as content:
        while content.read(CHUNK):
            pass


def read_packed(path: Path, repair: str) -> bytes:
    """The bytes of a file that ends in an npz, once its directory was found true.

    Raises:
        DataError: no file, or what it ends in is not an npz.
    """
    with opened(path, repair) as file:
        try:
            with ZipFile(Frugal(file)) as archive:
                check_directory(archive.infolist(), file.seek(0, io.SEEK_END))
        except NOT_NPZ as error:
            raise not_npz(path, error, repair) from None
        file.seek(0)
        return file.read()


def unpack_arrays(path: Path, content: bytes, repair: str) -> dict[str, np.ndarray]:
    """Every array of an npz that was read already.

    Raises:
        DataError: anything but an npz of plain arrays.
    """
    try:
        file = Frugal(io.BytesIO(content))
        with ZipFile(file) as archive:
            members = archive.infolist()
            check_directory(members, len(content))
            file.limit = len(content)
            return {
                member.filename.removesuffix(".npy"): parse_npy(
                    member.filename, archive.read(member)
                )
                for member in members
            }
    except NOT_NPZ as error:
        raise not_npz(path, error, repair) from None


def not_npz(path: Path, error: Exception, repair: str) -> DataError:
    """What to tell the file's reader."""
    return DataError(
        f"{path}: expected an npz of plain arrays, found {one_line(error)}. {repair}"
    )


class Frugal:
    """A file that refuses to give a zip's whole directory when that is huge."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self.limit = MAX_DIRECTORY

    def read(self, size: int = -1) -> bytes:
        """Reads as the file does.

        Raises:
            ValueError: more than `limit` bytes at once.
        """
        most = self.limit + 1
        content = self.file.read(min(size, most) if size >= 0 else most)
        if len(content) > self.limit:
            raise ValueError(f"a zip directory of more than {self.limit} bytes")
        return content


def check_directory(members: list[ZipInfo], size: int) -> None:
    """Raises ValueError where a zip of `size` bytes cannot hold what it lists."""
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"{len(members)} files in one")
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise ValueError("two arrays of one name")
    for member in members:
        steps = member.filename.removesuffix(".npy").split("/")
        if not member.filename.endswith(".npy") or {"", ".", ".."} & set(steps):
            raise ValueError(f"a file named {member.filename[:60]!r} in it")
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise ValueError(f"an unknown compression of {member.filename[:60]!r}")
        if member.flag_bits & 0x1:
            raise ValueError(f"{member.filename[:60]!r} encrypted")
    packed = sum(member.compress_size for member in members)
    unpacked = sum(member.file_size for member in members)
    if not packed <= size <= packed + MAX_DIRECTORY:
        raise ValueError(f"{size} bytes that should be {packed} and a directory")
    if unpacked > FREE + MAX_RATIO * packed:
        raise ValueError(
            f"{packed} bytes that claim to hold {unpacked}, which is taken only "
            "uncompressed, from numpy.savez"
        )


def parse_npy(name: str, content: bytes) -> np.ndarray:
    """The array in an npy file, without a copy.

    Raises:
        ValueError: as `parse_header`.
    """
    header = parse_header(name, content[:MAX_HEADER], len(content))
    flat = np.frombuffer(content, header.dtype, offset=header.end)
    return flat.reshape(header.shape, order=header.order)


def parse_header(name: str, content: bytes, size: int) -> Header:
    """What an npy file says of itself.

    Args:
        name: of the file, for messages.
        content: its first `MAX_HEADER` bytes, or all where there are fewer.
        size: bytes of all of it.

    Source: numpy's NEP 1, "A Simple File Format for NumPy Arrays", version 1.0.

    Raises:
        ValueError: another format, a type that is no number, a shape that does not
            fit the bytes; others of `NOT_NPZ` from a shape that no array can have.
    """
    begin = len(MAGIC) + 2
    end = begin + int.from_bytes(content[len(MAGIC) : begin], "little")
    # Later versions are for headers that plain arrays do not need.
    if not content.startswith(MAGIC) or end > len(content):
        raise ValueError(f"{name[:60]!r} not in npy format 1.0")
    header = HEADER.fullmatch(content[begin:end])
    if header is None:
        written = content[begin:end].decode("latin1")[:70]
        raise ValueError(f"{name[:60]!r} with {written!r}, not an array of numbers")
    kind, fortran, sizes = (group.decode() for group in header.groups())
    shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    dtype = np.dtype(kind)
    if size - end != math.prod(shape) * dtype.itemsize:
        said = f"the shape {str(list(shape))[:60]} of {name[:60]!r}"
        raise ValueError(f"{size - end} bytes for {said}")
    np.broadcast_to(
        dtype.type(), shape
    )  # too many dimensions, or none of them and huge
    return Header(dtype, "F" if fortran == "True" else "C", shape, end)
