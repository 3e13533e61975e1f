"""Arrays in npz files: written as numpy does, read without trusting the file.

An npz is a zip of npy files. In a hostile file the zip's directory may state wrong
sizes, a header may state a wrong shape, and an array may contain a pickle. So the
directory must be small and agree with the file's size before anything is read. No array
is larger than the bytes of its member. `numpy.load` is not used: it trusts headers.
"""

import io
import math
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from src.errors import DataError, one_line
from src.storage.reading import check_digest, open_regular

MAX_MEMBERS = 10_000
MAX_DIRECTORY = 4 << 20  # bytes of a zip's directory: `MAX_MEMBERS` with long names
MAGIC = b"\x93NUMPY\1\0"
MAX_HEADER = 1_000  # bytes of an npy file's header: enough for any shape
MAX_RATIO = 100  # unpacked bytes per packed byte
FREE_BYTES = 32 << 20  # exempt from the ratio: sorted labels are packed 1,000 to 1
# The header as numpy writes it: booleans, integers, floats, and text of a fixed width.
NPY_HEADER = re.compile(
    rb"\{'descr': ?'([|<>=](?:b1|[iu][1248]|f[248]|[US][1-9][0-9]{0,3}))', ?"
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
    """The header of an npy file."""

    dtype: np.dtype
    order: Literal["C", "F"]
    shape: tuple[int, ...]
    end: int  # length of the header in bytes; the numbers follow


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> memoryview:
    """An npz file: the same arrays give the same bytes.

    It is not compressed, so `lazy_npz` can read single rows.
    """
    return packed_by(np.savez, arrays)


def compress_arrays(arrays: Mapping[str, np.ndarray]) -> memoryview:
    """A compressed npz file: the same arrays and zlib give the same bytes."""
    return packed_by(np.savez_compressed, arrays)


def packed_by(
    save: Callable[..., None], arrays: Mapping[str, np.ndarray]
) -> memoryview:
    """The npz file that one of numpy's two functions writes."""
    buffer = io.BytesIO()
    # Not `ascontiguousarray`, which turns a scalar into an array of one element.
    contiguous = {name: np.asarray(arrays[name], order="C") for name in arrays}
    save(buffer, allow_pickle=False, **contiguous)
    return buffer.getbuffer()


def read_arrays(
    path: Path, repair: str, sha256: str | None = None
) -> dict[str, np.ndarray]:
    """Reads all arrays of an npz file; they are read-only.

    Args:
        path: the file.
        repair: advice for the error message, a sentence.
        sha256: the recorded digest, if there is one.

    Raises:
        DataError: there is no such file, it was changed, or it is not an npz of plain
            arrays.
    """
    content = read_packed(path, repair)
    check_digest(path, content, repair, sha256)
    return unpack_arrays(path, content, repair)


def read_packed(path: Path, repair: str) -> bytes:
    """Reads a file that ends in an npz, after checking the zip's directory.

    Raises:
        DataError: there is no such file, or it does not end in an npz.
    """
    with open_regular(path, repair) as file:
        try:
            with ZipFile(LimitedFile(file)) as archive:
                check_directory(archive.infolist(), file.seek(0, io.SEEK_END))
        except NOT_NPZ as error:
            raise not_npz(path, error, repair) from None
        file.seek(0)
        return file.read()


def unpack_arrays(path: Path, content: bytes, repair: str) -> dict[str, np.ndarray]:
    """All arrays of an npz in memory.

    Raises:
        DataError: it is not an npz of plain arrays.
    """
    try:
        file = LimitedFile(io.BytesIO(content))
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
    """The error for a file that is not an npz."""
    return DataError(
        f"{path}: expected an npz of plain arrays, found {one_line(error)}. {repair}"
    )


class LimitedFile:
    """A file that refuses to read more than `limit` bytes at once.

    `ZipFile` reads the whole directory of a zip at once, however large it claims to be.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self.limit = MAX_DIRECTORY

    def read(self, size: int = -1) -> bytes:
        """Reads like the file.

        Raises:
            ValueError: there are more than `limit` bytes to read.
        """
        most = self.limit + 1
        content = self.file.read(min(size, most) if size >= 0 else most)
        if len(content) > self.limit:
            raise ValueError(f"a zip directory of more than {self.limit} bytes")
        return content


def check_directory(members: list[ZipInfo], size: int) -> None:
    """Raises ValueError if a zip of `size` bytes cannot have this directory."""
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"{len(members)} members")
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise ValueError("two arrays of the same name")
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
        raise ValueError(f"{size} bytes instead of {packed} and a directory")
    if unpacked > FREE_BYTES + MAX_RATIO * packed:
        raise ValueError(
            f"{packed} bytes that claim to hold {unpacked}; so much is read only "
            "uncompressed, from numpy.savez"
        )


def parse_npy(name: str, content: bytes, text: bool = False) -> np.ndarray:
    """The array in an npy file, without a copy; `text` as for `parse_header`.

    Raises:
        ValueError: see `parse_header`.
    """
    header = parse_header(name, content[:MAX_HEADER], len(content), text)
    flat = np.frombuffer(content, header.dtype, offset=header.end)
    return flat.reshape(header.shape, order=header.order)


def parse_header(name: str, content: bytes, size: int, text: bool = False) -> Header:
    """Parses the header of an npy file.

    Args:
        name: of the file, for messages.
        content: the first `MAX_HEADER` bytes of the file, or all of a shorter one.
        size: of the whole file, in bytes.
        text: whether text of a fixed width is allowed too.

    Source: numpy's NEP 1, "A Simple File Format for NumPy Arrays", version 1.0.

    Raises:
        ValueError: the format is unknown, the type is not a number, or the shape does
            not fit the size. An impossible shape raises other errors of `NOT_NPZ`.
    """
    begin = len(MAGIC) + 2
    end = begin + int.from_bytes(content[len(MAGIC) : begin], "little")
    # Later versions only serve headers of structured arrays.
    if not content.startswith(MAGIC) or end > len(content):
        raise ValueError(f"{name[:60]!r} not in npy format 1.0")
    header = NPY_HEADER.fullmatch(content[begin:end])
    if header is None or (header[1][1:2] in b"US" and not text):
        written = content[begin:end].decode("latin1")[:70]
        if "'|O'" in written:
            raise ValueError(f"{name[:60]!r} with Python objects, which can run code")
        raise ValueError(f"{name[:60]!r} with {written!r}, not an array of numbers")
    kind, fortran, sizes = (group.decode() for group in header.groups())
    shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    dtype = np.dtype(kind)
    if size - end != math.prod(shape) * dtype.itemsize:
        claim = f"the shape {str(list(shape))[:60]} of {name[:60]!r}"
        raise ValueError(f"{size - end} bytes for {claim}")
    # Raises for too many dimensions, and for a huge dimension next to one of 0.
    np.broadcast_to(dtype.type(), shape)
    return Header(dtype, "F" if fortran == "True" else "C", shape, end)
