"""What is written: beside its place, down to the disk, then renamed, all or none.

A reader therefore finds a complete file or none, whenever the writer was killed, and
what a stage writes `together` takes its place together.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.errors import StorageError
from src.signals import defer

_waiting: dict[Path, Path | None] | None = None  # path: where it lies, None: to go


@contextmanager
def atomic_commit() -> Iterator[None]:
    """What is written or removed inside happens at the end, or not at all.

    Raises:
        StorageError: a file cannot take its place.
    """
    global _waiting
    mine: dict[Path, Path | None] = {}
    _waiting = mine
    try:
        yield
        defer()  # a signal between two of them would leave some of both
        for path, beside in mine.items():
            with storage_errors(path):
                remove_now(path) if beside is None else beside.replace(path)
        for folder in sorted({path.parent for path in mine}):
            sync_folder(folder)
    finally:
        _waiting = None
        for beside in filter(None, mine.values()):
            beside.unlink(missing_ok=True)


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
        with storage_errors(path):
            beside.replace(path)
    except StorageError:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_beside(path: Path, content: bytes | memoryview) -> Path:
    """Writes a file with another name in the folder of `path`, down to the disk."""
    make_folder(path.parent)
    with storage_errors(path):
        if path.is_dir():  # found here, not when the others took their places
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    remove_leftovers(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage_errors(path):
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
    with storage_errors(folder):
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
    with storage_errors(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_symlink() or path.exists():
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` survive a power loss."""
    with storage_errors(folder):
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
    errno.EISDIR: "A file must be there: move the folder away.",
    errno.ELOOP: "A link lies there: remove it.",
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an OSError into a StorageError that names `path` and says what to do."""
    try:
        yield
    except OSError as error:
        advice = ADVICE.get(error.errno or 0, "Check the disk.")
        raise StorageError(f"{path}: {error.strerror or error}. {advice}") from None
