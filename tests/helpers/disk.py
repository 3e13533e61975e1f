"""A simulated disk that fills up, fails or loses power: it patches functions of `os`.

Without `fsync`, a file may be empty, truncated or full of zeros after a power failure,
and a rename may be lost.
"""

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

PARTS = 40  # places at which a file is truncated
PASSED_ON = "open", "write", "fsync", "close", "replace", "unlink", "mkdir"


class Disk:
    """Everything below `root`, as seen through the functions of `os`."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch, syncs: bool = True):
        self.root = root.resolve()
        self.syncs = syncs  # False: `fsync` is called and does nothing
        self.log: list[tuple] = []
        self.calls = 0
        self.fails_at = 0  # the number of the call that fails, from 1
        self.code = 0  # errno of that failure
        self.files: dict[int, tuple[int, Path]] = {}  # by descriptor: inode, path
        self.inodes = itertools.count(1)  # never reused, unlike a real disk's
        self.real = {name: getattr(os, name) for name in PASSED_ON}
        for name in PASSED_ON:
            patch.setattr(os, name, getattr(self, name))

    def below(self, path: object) -> Path | None:
        """The path relative to `root`; None if it is outside."""
        full = Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - links stay
        return full.relative_to(self.root) if full.is_relative_to(self.root) else None

    def failing(self) -> bool:
        self.calls += 1
        return self.calls == self.fails_at

    def check(self, path: object) -> None:
        if self.failing():
            raise OSError(self.code, os.strerror(self.code), os.fspath(path))

    def open(self, path, flags, mode=0o777, *, dir_fd=None):
        where = None if dir_fd is not None else self.below(path)
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if where is not None and writes:
            self.check(path)
        descriptor = self.real["open"](path, flags, mode, dir_fd=dir_fd)
        if where is not None:
            inode = next(self.inodes) if writes else 0
            self.files[descriptor] = (inode, where)
            if flags & os.O_CREAT:
                self.log.append(("create", where, inode))
        return descriptor

    def write(self, descriptor, content):
        if descriptor not in self.files:
            return self.real["write"](descriptor, content)
        failing = self.failing()
        if failing and self.code != errno.EINTR:  # some of it fits
            self.real["write"](descriptor, bytes(content)[: len(content) // 2])
            raise OSError(self.code, os.strerror(self.code))
        part = bytes(content)[: len(content) // 2 if failing else len(content)]
        self.log.append(("write", self.files[descriptor][0], part))
        return self.real["write"](descriptor, part)

    def fsync(self, descriptor):
        if descriptor in self.files:
            inode, path = self.files[descriptor]
            self.check(path)
            if self.syncs:
                self.log.append(("sync", inode) if inode else ("sync names", path))
        self.real["fsync"](descriptor)

    def close(self, descriptor):
        self.files.pop(descriptor, None)
        self.real["close"](descriptor)

    def replace(self, old, new, *, src_dir_fd=None, dst_dir_fd=None):
        if (where := self.below(old)) is not None:
            self.check(new)
            self.log.append(("move", where, self.below(new)))
        self.real["replace"](old, new)

    def unlink(self, path, *, dir_fd=None):
        where = None if dir_fd is not None else self.below(path)
        if where is not None and os.path.lexists(path):
            self.check(path)
            self.log.append(("remove", where))
        self.real["unlink"](path, dir_fd=dir_fd)

    def mkdir(self, path, mode=0o777, *, dir_fd=None):
        where = None if dir_fd is not None else self.below(path)
        # A full disk does not fail for a folder that is there: nothing is written.
        if where is not None and not os.path.lexists(path):
            self.check(path)
        self.real["mkdir"](path, mode, dir_fd=dir_fd)
        if where is not None:
            self.log.append(("mkdir", where))


Tree = dict[Path, bytes | None]  # files with their content, folders with None


def crashes(log: list[tuple]) -> Iterator[tuple[int, Tree]]:
    """All that may lie on the disk if the power went at any moment: (moment, tree)."""
    for moment in range(len(log) + 1):
        synced, dirty, pending, entries = replay(log[:moment])
        for kept in subsets(pending):
            names = dict(entries)
            for change in kept:
                apply(names, change)
            inodes = sorted({n for n in names.values() if n in dirty})
            variants = [arrived(synced.get(n, b""), dirty[n]) for n in inodes]
            for choice in itertools.product(*variants):
                contents = synced | dict(zip(inodes, choice, strict=True))
                yield moment, tree_of(names, contents)


def arrived(old: bytes, new: bytes) -> list[bytes]:
    """Possible contents of a file that was not synced: old, zeros, any part, all."""
    parts = [new[: len(new) * part // PARTS] for part in range(PARTS + 1)]
    return [old, bytes(len(new)), *parts]


def replay(log):
    """Contents on the disk, contents on their way, names on their way, and names."""
    synced: dict[int, bytes] = {}
    dirty: dict[int, bytes] = {}
    pending: list[tuple] = []
    entries: dict[Path, int | None] = {}
    inode_at: dict[Path, int | None] = {}
    for entry in log:
        match entry:
            case ("create", path, inode):
                change = ("set", path, inode)
            case ("write", inode, part):
                dirty[inode] = dirty.get(inode, synced.get(inode, b"")) + part
                continue
            case ("sync", inode):
                if inode in dirty:
                    synced[inode] = dirty.pop(inode)
                continue
            case ("sync names", folder):
                for change in [c for c in pending if c[1].parent == folder]:
                    apply(entries, change)
                    pending.remove(change)
                continue
            case ("move", old, new):
                change = ("move", old, new, inode_at[old])
            case ("remove", path):
                change = ("remove", path)
            case ("mkdir", path):
                change = ("set", path, None)
            case _:
                continue
        apply(inode_at, change)
        pending.append(change)
    return synced, dirty, pending, entries


def apply(names, change):
    match change:
        case ("set", path, inode):
            names[path] = inode
        case ("move", old, new, inode):
            names.pop(old, None)
            names[new] = inode
        case ("remove", path):
            names.pop(path, None)


def subsets(changes):
    """Any of the names' changes may have reached the disk; their order is kept."""
    assert len(changes) <= 12, "too many to try them all"
    for bits in itertools.product((False, True), repeat=len(changes)):
        yield list(itertools.compress(changes, bits))


def tree_of(names, contents) -> Tree:
    """The files whose parent folders exist."""
    tree: Tree = {}
    for path in sorted(names):
        folders = [folder for folder in path.parents if folder != Path()]
        if all(folder in names for folder in folders):
            inode = names[path]
            tree[path] = None if inode is None else contents.get(inode, b"")
    return tree


def lay(tree: Tree, root: Path) -> None:
    """Makes the folders and files."""
    root.mkdir(parents=True)
    for path, content in sorted(tree.items()):
        if content is None:
            (root / path).mkdir(exist_ok=True)
        else:
            (root / path).write_bytes(content)
