"""Files: written beside their place, flushed to the disk, then renamed; read whole.

A reader therefore finds a complete file or none, whenever the writer was killed, and
what a stage writes `together` takes its place together. JSON has sorted keys and finite
numbers only: the same content gives the same bytes, which is what DVC compares.
"""

import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from src.errors import DataError, StorageError

Record = TypeVar("Record", bound=BaseModel)

DECIMALS = 6  # of every number in metrics/: less is rounding noise, not a change
SEAL = "sha256_of_the_rest"
MAX_JSON = 4 << 20  # bytes: ten thousand classes need one million

_waiting: dict[Path, Path | None] | None = None  # path: where it lies, None: to go


@contextmanager
def together() -> Iterator[None]:
    """What is written or removed inside happens at the end, or not at all.

    Raises:
        StorageError: a file cannot take its place.
    """
    global _waiting
    outer, _waiting = _waiting, {}
    mine = _waiting
    try:
        yield
        for path, beside in mine.items():
            with explained(path):
                remove_now(path) if beside is None else beside.replace(path)
        for folder in sorted({path.parent for path in mine}):
            sync_folder(folder)
    finally:
        _waiting = outer
        for beside in filter(None, mine.values()):
            beside.unlink(missing_ok=True)


def written(path: Path) -> Path:
    """Where a file lies that was written `together` with others, while it waits."""
    return (_waiting or {}).get(path) or path


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Replaces `path` by `content`, completely or not at all.

    Raises:
        StorageError: the disk is full, or the folder cannot be written; `path` is as
            it was.
    """
    if _waiting is None:
        replace_file(path, content)
    else:
        _waiting[path] = write_beside(path, content)


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """As `write_bytes`, at once even among files that wait for each other.

    Raises:
        StorageError: as there.
    """
    beside = write_beside(path, content)
    try:
        with explained(path):
            beside.replace(path)
    except StorageError:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_beside(path: Path, content: bytes | memoryview) -> Path:
    """Writes a file with another name in the folder of `path`, down to the disk."""
    make_folder(path.parent)
    remove_leftovers(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained(path):
        # Never through a link that somebody laid there.
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
    return beside


def remove_leftovers(path: Path) -> None:
    """Removes what writers of `path` left beside it that were killed."""
    name = re.compile(rf"\.{re.escape(path.name)}\.([0-9]{{1,9}})\.tmp")
    for other in path.parent.iterdir():
        if (found := name.fullmatch(other.name)) and not alive(int(found[1])):
            remove_now(other)


def alive(process: int) -> bool:
    """Whether another process has this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, down to the disk.

    Raises:
        StorageError: it cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with explained(folder):
        try:
            folder.mkdir()
        except FileExistsError:  # another process was faster; or it is a file
            if not folder.is_dir():
                raise
    sync_folder(folder.parent)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it; there may be none."""
    if _waiting is None:
        remove_now(path)
    else:
        _waiting[path] = None


def remove_now(path: Path) -> None:
    """As `remove`, at once even among files that wait for each other."""
    with explained(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_symlink() or path.exists():
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` survive a power loss."""
    with explained(folder):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


ADVICE = {
    errno.ENOSPC: "Free some space.",
    errno.EDQUOT: "Free some space.",
    errno.EFBIG: "Raise the limit of file sizes.",
    errno.EACCES: "Make it writable.",
    errno.EPERM: "Make it writable.",
    errno.EROFS: "Make it writable.",
    errno.EEXIST: "A folder must be there: move the file away.",
    errno.ENOTDIR: "A folder must be there: move the file away.",
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an OSError into a StorageError that names `path` and says what to do."""
    try:
        yield
    except OSError as error:
        advice = ADVICE.get(error.errno or 0, "Check the disk.")
        raise StorageError(f"{path}: {error.strerror or error}. {advice}") from None


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


def opened(path: Path, repair: str) -> BinaryIO:
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


def check_inside(path: Path, folder: Path) -> None:
    """Raises DataError where a link leads out of a data set and of this project."""
    real = path.resolve()
    if not any(real.is_relative_to(home.resolve()) for home in (folder, Path())):
        raise DataError(
            f"{path}: expected a file of the data set, found a link to a file outside "
            f"of {folder}. Copy the file there."
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
    if sha256 is not None and (found := digest(content)) != sha256:
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
    if text != json_bytes(sealed(content)):
        raise DataError(
            f"{path}: expected the content that its {SEAL} was taken of, found another:"
            f" the file was changed or damaged. {repair}"
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise DataError(
            f"{path}: {where}: expected another content, found: {fault['msg']}. "
            f"{repair}"
        ) from None


def one_line(error: Exception) -> str:
    """An error's own words, without line breaks or a full stop, not too many."""
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return words if len(words) <= 200 else f"{words[:197]}..."


def digest(content: bytes | memoryview) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
