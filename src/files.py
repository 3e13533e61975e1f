"""Files of JSON and tables, written one way and read whole, with their digests.

JSON has sorted keys and finite numbers only: the same content gives the same bytes,
which is what DVC compares. What crosses from one stage to the next is checked.
"""

import csv
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from src.errors import DataError
from src.storage import write_bytes

Record = TypeVar("Record", bound=BaseModel)

DECIMALS = 6  # of every number in metrics/: less is rounding noise, not a change
SEAL = "sha256_of_the_rest"
# A file in a cache of DVC, which may lie anywhere and be linked to.
CACHED = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")
MAX_JSON = 4 << 20  # bytes: ten thousand classes need one million
MAX_TABLE = 1 << 28  # bytes: a million epochs, or some million images


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes `content` with sorted keys.

    Raises:
        ValueError: a number in `content` is not finite.
    """
    write_bytes(path, json_bytes(content))


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """The one way in which `content` is written here."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    return f"{text}\n".encode()


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


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Writes a table, floats rounded as in the metrics; returns its SHA-256."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([rounded(value) for value in row] for row in rows)
    content = table.getvalue().encode()
    write_bytes(path, content)
    return digest(content)


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Writes `content` as JSON with the SHA-256 of all the rest of it inside.

    Raises:
        ValueError: a number in `content` is not finite.
    """
    write_json(path, sealed(content))


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with its own digest."""
    return {**content, SEAL: digest(json_bytes(content))}


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


def read_json(path: Path, repair: str) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        DataError: there is no such file, or it holds something else.
    """
    return parse_json(path, read_bytes(path, repair, MAX_JSON), repair)


def parse_json(path: Path, text: bytes, repair: str) -> dict[str, Any]:
    """The JSON object in a file that was read already.

    Raises:
        DataError: it is something else.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:  # also what is not UTF-8
        raise DataError(f"{path}: expected JSON, found {error}. {repair}") from None
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: expected a JSON object, found another value. {repair}"
        )
    return content


def read_record(path: Path, kind: type[Record], repair: str) -> Record:
    """Reads what `write_record` wrote as the pydantic model `kind`.

    Raises:
        DataError: there is no such file, it was changed, or a key is missing or of
            another type.
    """
    text = read_bytes(path, repair, MAX_JSON)
    content = parse_json(path, text, repair)
    content.pop(SEAL, None)
    try:
        expected = json_bytes(sealed(content))
    except (ValueError, RecursionError):  # not finite, or not to be encoded
        expected = b""
    if text != expected:
        raise DataError(
            f"{path}: expected the content that its {SEAL} was taken of, found another:"
            f" the file was changed or damaged. {repair}"
        )
    return checked(path, content, kind, repair)


def checked(
    path: Path, content: Mapping[str, Any], kind: type[Record], repair: str
) -> Record:
    """The content of a JSON file as the pydantic model `kind`.

    Raises:
        DataError: a key is missing or of another type.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise DataError(
            f"{path}: {where}: expected another content, found: {fault['msg']}. "
            f"{repair}"
        ) from None


def read_columns(
    path: Path,
    repair: str,
    kinds: Mapping[str, Callable[[str], Any]],
    sha256: str | None = None,
) -> dict[str, list[Any]]:
    """Columns of a table.

    Args:
        path: a CSV file.
        repair: what its reader should do when it is missing or broken, a sentence.
        kinds: what makes a value of a cell, by column.
        sha256: the digest that was recorded when the file was written, if one was.

    Raises:
        DataError: it is missing, has another digest, or lacks a column or a row.
    """
    content = read_bytes(path, repair, MAX_TABLE, sha256)
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
        if not rows:
            raise ValueError("no rows")
        return {name: [kind(row[name]) for row in rows] for name, kind in kinds.items()}
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataError(
            f"{path}: expected a table with {', '.join(kinds)}, found "
            f"{one_line(error)}. {repair}"
        ) from None


def one_line(error: Exception) -> str:
    """An error's own words, without line breaks or a full stop, not too many."""
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return words if len(words) <= 200 else f"{words[:197]}..."


def digest(content: bytes | memoryview) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
