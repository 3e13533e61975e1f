"""Arrays in npz files: written as numpy does, read as if a stranger had written them.

An npz is a zip of npy files. Each may lie: its directory about sizes, a header about a
shape, and either may ask for a pickle to be run. So nothing is read before the zip's
directory was found small and true to the file's size, and no array is made that is
larger than the bytes that are there. `numpy.load` is not used: it believes headers.
"""

import io
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from src.errors import DataError, one_line
from src.storage.reading import check_digest, opened

MAX_MEMBERS = 10_000
MAX_DIRECTORY = 4 << 20  # bytes of a zip's directory: as many members with long names
MAGIC = b"\x93NUMPY\1\0"
MAX_HEADER = 1_000  # bytes until an npy file's numbers begin: enough for any shape
MAX_RATIO = 100  # unpacked bytes per packed byte; labels in a row reach 1,000, so
FREE = 32 << 20  # as many bytes may come from next to nothing
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


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> memoryview:
    """An npz file: the same arrays give the same bytes.

    It is not compressed, so `lazy_npz` can read single rows.
    """
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
    # Too many dimensions, or no number and a huge one.
    np.broadcast_to(dtype.type(), shape)
    return Header(dtype, "F" if fortran == "True" else "C", shape, end)
