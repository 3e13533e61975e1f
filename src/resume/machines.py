"""Snapshots that the same run left on other machines, or with other devices."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from flax import nnx

from src.errors import DataError
from src.resume.lock import try_lock
from src.resume.snapshots import FoundSnapshot, SnapshotFolder


def find_on_other_machines(
    own: Path, template: nnx.State
) -> tuple[Path, FoundSnapshot] | None:
    """The newest snapshot of the run on another machine, with its folder.

    Args:
        own: the run's folder for this machine.
        template: a state of the same run, with the expected arrays.

    Raises:
        DataError: there are snapshots, and all are damaged.
    """
    damaged = None
    for folder in other_machines(own):
        try:
            found = SnapshotFolder(folder).find_newest(template)
        except DataError as error:
            damaged = error
            continue
        if found:
            progress = replace(found.snapshot.progress, from_other_machine=True)
            snapshot = found.snapshot._replace(progress=progress)
            return folder, found._replace(snapshot=snapshot)
    if damaged:
        raise damaged
    return None


def other_machines(own: Path) -> Iterator[Path]:
    """The run's folders of other machines, newest first, each locked in turn.

    Leaves out links and folders whose lock another process or user has.
    """
    run = own.name.partition("-")[0]
    folders = [
        path
        for path in own.parent.iterdir()
        if re.fullmatch(rf"{run}-[0-9a-f]{{8}}", path.name)
        and path != own
        and not path.is_symlink()
    ]
    for path in sorted(folders, key=modified_ns, reverse=True):
        with try_lock(path) as locked:
            if locked and path.is_dir():
                yield path


def modified_ns(path: Path) -> int:
    """Time of modification in nanoseconds; 0 if the path has just been removed."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
