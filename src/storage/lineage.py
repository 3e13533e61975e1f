"""What a stage read is still there when it writes: else DVC would record another cause.

DVC looks at a stage's dependencies after the stage has run (iterative/dvc#11058): a
source, a data file or a parameter that was edited meanwhile would be recorded as what
the results were made from.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import yaml

from src import paths
from src.config.load import load_params
from src.config.params import Params
from src.errors import DataError, ParameterError
from src.storage.atomic import atomic_commit

LARGE = 1 << 26  # bytes: a shard is larger; to hash all of them takes long
PIPELINES = Path("dvc.yaml"), Path("extra/dvc.yaml")


class InputDigests(NamedTuple):
    """What a stage found when it began."""

    digests: dict[str, str]  # by dependency
    values: dict[str, Any]  # of the parameters that it reads


_seen = InputDigests({}, {})


def record_inputs(stage: str, params: Params) -> None:
    """Takes the digests of all that `dvc.yaml` says the stage depends on."""
    global _seen
    entry, values = stage_entry(stage), params.model_dump()
    # DVC allows more than a path or a name; what is not ours is not compared.
    listed = [name for name in entry.get("deps", []) if isinstance(name, str)]
    names = [Template(name).safe_substitute(values) for name in listed]
    keys = [key for key in entry.get("params", []) if isinstance(key, str)]
    _seen = InputDigests(
        {name: tree_digest(Path(name)) for name in names},
        {key: values[key] for key in keys if key in values},
    )


def stage_entry(stage: str) -> dict[str, Any]:
    """What DVC knows of a stage; nothing where it does not run it."""
    for pipeline in PIPELINES:
        if pipeline.is_file():
            listed = yaml.safe_load(pipeline.read_text())["stages"]
            if stage in listed:
                return dict(listed[stage])
    return {}


def tree_digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder."""
    total = hashlib.sha256()
    for each in sorted(files_of(path)):
        total.update(f"{each.relative_to(path)}\0{file_digest(each)}\n".encode())
    return total.hexdigest()


def files_of(path: Path) -> Iterator[Path]:
    """The file, or all files in the folder and in the folders that links lead to."""
    if path.is_file():
        yield path
    entered = set()
    for folder, inner, names in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:  # a link back
            inner.clear()
            continue
        entered.add(real)
        if "__pycache__" in inner:  # changes while sources are imported, as .dvcignore
            inner.remove("__pycache__")
        yield from (found for name in names if (found := Path(folder, name)).is_file())


def file_digest(path: Path) -> str:
    """SHA-256 of the content; of a very large file, when and where it was changed."""
    state = path.stat()
    if state.st_size > LARGE:
        return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def outputs() -> Iterator[None]:
    """What is written inside appears together, if all that was read is as it was.

    Raises:
        DataError: a dependency or a parameter was changed; nothing appears.
        StorageError: something cannot be written; nothing appears.
    """
    with atomic_commit():
        yield
        check_unchanged()


def check_unchanged() -> None:
    """Raises DataError where something is not what `remember` saw."""
    for name, before in _seen.digests.items():
        if tree_digest(Path(name)) != before:
            raise changed(name, "the content that the stage began with", "another")
    if _seen.values:
        try:
            now = load_params(paths.PARAMS).model_dump()
        except ParameterError:
            now = {}
        for name, value in _seen.values.items():
            if now.get(name) != value:
                where = f"{paths.PARAMS}: {name}"
                raise changed(where, f"{value!r} as in the beginning", now.get(name))


def changed(where: str, expected: str, found: object) -> DataError:
    """What to tell who edited a file too soon."""
    return DataError(
        f"{where}: expected {expected}, found {found}: edited while the stage ran, so "
        "nothing was written. Run it again; with the edit undone, training goes on "
        "from its last save."
    )
