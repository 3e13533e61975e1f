"""Files: written beside their place, flushed to the disk, then renamed; read whole.

A reader therefore finds a complete file or none, whenever the writer was killed. JSON
has sorted keys and finite numbers only, npz has no time stamps: the same content gives
the same bytes, which is what DVC compares.
"""

import csv
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
from pydantic import BaseModel, ValidationError

from src.errors import DataError

Record = TypeVar("Record", bound=BaseModel)

NOT_NPZ = (
    ValueError,  # also a pickle: nothing of it is run
    TypeError,
    KeyError,
    EOFError,
    RuntimeError,  # encrypted, or compressed in a way that zipfile does not know
    BadZipFile,
    zlib.error,
)
DECIMALS = 6  # of every number in metrics/: less is rounding noise, not a change


def write_bytes(path: Path, content: bytes | bytearray | memoryview) -> None:
    """Replaces `path` by `content`, completely or not at all.

    Raises:
        OSError: the disk is full, or the folder cannot be written; `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes `content` with sorted keys.

    Raises:
        ValueError: a number in `content` is not finite.
    """
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def write_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Writes numbers, nested by split, rounded: `dvc metrics diff` shows real changes.

    Raises:
        ValueError: a number in `metrics` is not finite.
    """
    write_json(path, rounded(metrics))


def rounded(value: Any) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """`value` with every float in it rounded to `DECIMALS`."""
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return value


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table, floats rounded as in the metrics."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([rounded(value) for value in row] for row in rows)
    write_bytes(path, table.getvalue().encode())


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


def read_bytes(path: Path, repair: str) -> bytes:
    """Reads a whole file.

    Args:
        path: the file.
        repair: what its reader should do when there is none, a sentence.

    Raises:
        DataError: there is no such file.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(f"{path}: expected a file, found none. {repair}") from None


def read_json(path: Path, repair: str) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        DataError: there is no such file, or it holds something else.
    """
    try:
        content = json.loads(read_bytes(path, repair))
    except (ValueError, RecursionError) as error:  # also what is not UTF-8
        raise DataError(f"{path}: expected JSON, found {error}. {repair}") from None
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: expected a JSON object, found another value. {repair}"
        )
    return content


def read_record(path: Path, kind: type[Record], repair: str) -> Record:
    """Reads a JSON object as the pydantic model `kind`.

    Raises:
        DataError: there is no such file, or a key is missing or of another type.
    """
    try:
        return kind.model_validate(read_json(path, repair))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise DataError(
            f"{path}: {where}: expected another content, found: {fault['msg']}. "
            f"{repair}"
        ) from None


def read_arrays(
    path: Path, repair: str, sha256: str | None = None
) -> dict[str, np.ndarray]:
    """Reads every array of an npz, after its digest was found right.

    Args:
        path: the file.
        repair: what its reader should do when it is missing or broken, a sentence.
        sha256: the digest that was recorded when the file was written, if one was.

    Raises:
        DataError: no file, another digest, not an npz, or pickled objects inside.
    """
    content = read_bytes(path, repair)
    if sha256 is not None and digest(content) != sha256:
        found = digest(content)
        raise DataError(
            f"{path}: expected SHA-256 {sha256[:12]}..., found {found[:12]}...: "
            f"the file was changed or damaged. {repair}"
        )
    return unpack_arrays(path, content, repair)


def unpack_arrays(path: Path, content: bytes, repair: str) -> dict[str, np.ndarray]:
    """Every array of an npz that was read already.

    Raises:
        DataError: not an npz, or pickled objects inside.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            members = {name: arrays[name] for name in arrays.files}
    except NOT_NPZ as error:
        raise DataError(
            f"{path}: expected an npz of plain arrays, found {one_line(error)}. "
            f"{repair}"
        ) from None
    for name, array in members.items():
        if not isinstance(array, np.ndarray):  # a file of another kind in the archive
            raise DataError(
                f"{path}: {name}: expected an array, found other content. {repair}"
            )
    return members


def one_line(error: Exception) -> str:
    """An error's own words, without line breaks or a full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def digest(content: bytes | memoryview) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
