"""Refuses to write if an input of the stage changed while it ran.

DVC hashes the dependencies after the command has run (iterative/dvc#11058). Without
this check, `dvc.lock` would record a source, a data file or a parameter that the
results were not made from.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import yaml

from src import paths
from src.config.load import load_params
from src.config.params import Params
from src.errors import DataError, ParameterError

LARGE_BYTES = 1 << 26  # more than a shard; hashing such a file takes too long
PIPELINES = Path("dvc.yaml"), Path("extra/dvc.yaml")
# Files that interpreters, editors and desktops leave in folders; as in .dvcignore.
IGNORED = (
    "__pycache__",
    "*.pyc",
    "*.swp",
    "*~",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
)


class InputDigests(NamedTuple):
    """The inputs of a stage when it started."""

    digests: Mapping[str, str]  # SHA-256 by dependency
    values: Mapping[str, Any]  # of the parameters that the stage reads


NO_INPUTS = InputDigests({}, {})


def record_inputs(stage: str, params: Params) -> InputDigests:
    """The digests of all dependencies that `dvc.yaml` lists for a stage."""
    entry, values = stage_entry(stage), params.model_dump()
    # DVC also allows mappings here; the project uses none, so they are not compared.
    listed = [name for name in entry.get("deps", []) if isinstance(name, str)]
    names = [Template(name).safe_substitute(values) for name in listed]
    keys = [key for key in entry.get("params", []) if isinstance(key, str)]
    return InputDigests(
        {name: tree_digest(Path(name)) for name in names},
        {key: values[key] for key in keys if key in values},
    )


def stage_entry(stage: str) -> dict[str, Any]:
    """A stage's entry in `dvc.yaml`; empty for a command outside the pipeline."""
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
    """The file itself, or all files in the folder; links are followed."""
    if path.is_file():
        yield path
    entered = set()
    for folder, inner, names in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:  # a link to a parent folder
            inner.clear()
            continue
        entered.add(real)
        inner[:] = [name for name in inner if not is_ignored(name)]
        files = (Path(folder, name) for name in names if not is_ignored(name))
        yield from filter(Path.is_file, files)


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is no part of a dependency."""
    return any(fnmatch(name, pattern) for pattern in IGNORED)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content; of a large file, its size, times and inode."""
    state = path.stat()
    if state.st_size > LARGE_BYTES:
        return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_unchanged(inputs: InputDigests) -> None:
    """Raises DataError if a dependency or a parameter differs from `inputs`."""
    for name, before in inputs.digests.items():
        now = tree_digest(Path(name))
        if now != before:
            found = f"{now[:12]}..." if Path(name).exists() else "no such file"
            raise input_changed(name, f"SHA-256 {before[:12]}...", found)
    if inputs.values:
        try:
            values = load_params(paths.PARAMS).model_dump()
        except ParameterError:
            values = {}
        for name, value in inputs.values.items():
            if values.get(name) != value:
                where = f"{paths.PARAMS}: {name}"
                raise input_changed(where, repr(value), repr(values.get(name)))


def input_changed(where: str, expected: str, found: str) -> DataError:
    """The error for an input that was edited while the stage ran."""
    return DataError(
        f"{where}: expected {expected} as at the start, found {found}: it was edited "
        "while the stage ran, so nothing was written. Run the stage again; if you undo "
        "the edit, training resumes."
    )
