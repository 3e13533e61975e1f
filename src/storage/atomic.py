"""Atomic writes: a complete file or none, whenever the writer is killed.

Each file is written to a temporary name in its folder, synced, and then renamed. The
files of an `AtomicCommit` are renamed together, after all of them have been written.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from src.errors import StorageError
from src.signals import defer

Content = bytes | memoryview


class AtomicCommit:
    """Files to be written and removed together, at the end of `atomic_commit`."""

    def __init__(self) -> None:
        self.changes: dict[Path, Path | None] = {}  # the temporary file; None: remove

    def write(self, path: Path, content: Content) -> None:
        """Writes a temporary file, which will replace `path`.

        Raises:
            StorageError: the disk is full, or the folder is not writable.
        """
        self.changes[path] = write_temporary(path, content)

    def write_all(self, files: Mapping[Path, Content]) -> None:
        """Writes several files; see `write`."""
        for path, content in files.items():
            self.write(path, content)

    def remove(self, path: Path) -> None:
        """Marks a file or a folder to be removed; it need not exist."""
        self.changes[path] = None


@contextmanager
def atomic_commit() -> Iterator[AtomicCommit]:
    """Applies all changes of the commit at the end of the block; none on an error.

    Raises:
        StorageError: a file cannot be replaced or removed.
    """
    commit = AtomicCommit()
    try:
        yield commit
        defer()  # a signal between two renames would leave old and new files mixed
        for path, temporary in commit.changes.items():
            with storage_errors(path):
                remove_path(path) if temporary is None else temporary.replace(path)
        for folder in sorted({path.parent for path in commit.changes}):
            if folder.is_dir():  # the commit may have removed it
                sync_folder(folder)
    finally:
        for temporary in filter(None, commit.changes.values()):
            temporary.unlink(missing_ok=True)


def replace_file(path: Path, content: Content, *, sync: bool = True) -> None:
    """Writes or replaces one file, at once.

    Args:
        path: the file.
        content: all of it.
        sync: False for a file that a power failure may empty.

    Raises:
        StorageError: the disk is full, or the folder is not writable; `path` is
            unchanged.
    """
    temporary = write_temporary(path, content, sync=sync)
    try:
        with storage_errors(path):
            temporary.replace(path)
    except StorageError:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def write_temporary(path: Path, content: Content, *, sync: bool = True) -> Path:
    """Writes a temporary file in the folder of `path`; returns its path."""
    make_folder(path.parent)
    with storage_errors(path):
        if path.is_dir():  # checked now: at the rename, other files have been replaced
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage_errors(path):
        # O_EXCL: a symbolic link of that name is not followed.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if sync:
                os.fsync(descriptor)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
    return temporary


def remove_leftovers(path: Path) -> None:
    """Removes the temporary files of killed writers of `path`."""
    name = re.compile(rf"\.{re.escape(path.name)}\.([0-9]{{1,9}})\.tmp")
    for other in path.parent.iterdir():
        if (found := name.fullmatch(other.name)) and not is_running(int(found[1])):
            remove_path(other)


def is_running(process: int) -> bool:
    """Whether another process has this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def make_folder(folder: Path) -> None:
    """Creates and syncs a folder and its parents.

    Raises:
        StorageError: it cannot be created.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with storage_errors(folder):
        try:
            folder.mkdir()
        except FileExistsError:  # another process created it; or it is a file
            if not folder.is_dir():
                raise
    sync_folder(folder.parent)


def remove_path(path: Path) -> None:
    """Removes a file, or a folder with its content, at once; it need not exist.

    Raises:
        StorageError: it cannot be removed.
    """
    with storage_errors(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_symlink() or path.exists():
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Syncs the file names in a folder, so that they survive a power loss."""
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
    errno.ELOOP: "Remove the link.",
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an OSError into a StorageError with `path` and advice."""
    try:
        yield
    except OSError as error:
        advice = ADVICE.get(error.errno or 0, "Check the disk.")
        raise StorageError(f"{path}: {error.strerror or error}. {advice}") from None
