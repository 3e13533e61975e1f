"""Proves each exported file on the whole test split, in a fresh process.

The process runs the `run.py` that ships with the file. It imports nothing of this
project, only the runtime that a user of the file would install.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from src import paths
from src.config.names import FormatName
from src.data.examples import Examples
from src.data.shards import find_shards, shard_name
from src.errors import DataError, StorageError
from src.export.compare import compare
from src.export.faults import advice
from src.export.formats import format_module
from src.export.load import REPAIR_EXPORT
from src.export.manifest import Export, Files
from src.export.rounding import allowed_differences
from src.signals import raise_if_stopped
from src.storage.atomic import storage_errors
from src.storage.npz import read_arrays


class Proof(NamedTuple):
    """Measurements of a file."""

    metrics: dict[str, Any]  # reproducible, for metrics/details/export.json
    latency: dict[str, Any]  # depends on machine and moment, for latency.json


class Proofs(NamedTuple):
    """The formats whose files are proven, and a reason for each of the others."""

    proven: dict[FormatName, Proof]
    failed: dict[str, str]


def unpack_files(files: Files, folder: Path) -> None:
    """Writes the files to a folder."""
    for name, content in files.items():
        path = folder / name
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def prove_all(
    names: Sequence[FormatName], export: Export, test: Examples, expected: np.ndarray
) -> Proofs:
    """Runs each format's file on the test split and compares it with the network.

    Args:
        names: of the formats; formats that the export left out are skipped.
        export: the files to ship.
        test: the whole test split.
        expected: the trained network's probabilities, `[examples, classes]`.
    """
    proofs: dict[FormatName, Proof] = {}
    failed: dict[str, str] = {}
    allowed = allowed_differences(expected, export.error)
    with TemporaryDirectory(prefix="fourbeat-") as temporary:
        folder = Path(temporary)
        unpack_files(export.files, folder)
        images = single_file(test, folder)
        for name in names:
            if name not in export.manifest["formats"]:
                continue
            raise_if_stopped()
            module = format_module(name)
            answers = folder / f"{name}.npz"
            try:
                latency = run_fresh(folder / module.FILE, images, answers)
                found = read_arrays(answers, REPAIR_EXPORT)["probabilities"]
                metrics = compare(module, found, test.labels, expected, allowed)
            except DataError as error:
                repair = advice(name, exact=module.EXACT)
                failed[name] = f"{error} It is left out: {repair}."
                continue
            size = export.manifest["formats"][name]["bytes"]
            proofs[name] = Proof({"bytes": size, **metrics}, latency)
    return Proofs(proofs, failed)


def single_file(test: Examples, folder: Path) -> Path:
    """A file with all test images: the split's own, or a copy if it has shards."""
    if not find_shards(paths.PREPARED, "test"):
        return paths.PREPARED / shard_name("test", 0)
    path = folder / "test_images.npy"
    with storage_errors(path):
        np.save(path, test.images, allow_pickle=False)
    return path


def run_fresh(file: Path, images: Path, answers: Path) -> dict[str, Any]:
    """Runs `run.py` on a file and images.

    Args:
        file: the exported file.
        images: a .npy or .npz file.
        answers: the .npz file to write.

    Returns:
        The latency that `run.py` measured.

    Raises:
        DataError: the process failed.
        StorageError: the process could not write `answers`.
    """
    program = file.parent / "run.py"
    command = [sys.executable, "-I", program, file, images, "--latency"]
    ended = subprocess.run(  # noqa: S603 - our own program, and no shell
        [*map(str, command), "--output", str(answers)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        last = (ended.stderr.splitlines() or [f"exit code {ended.returncode}"])[-1]
        if ended.returncode == StorageError.exit_code:
            raise StorageError(f"{last}. Free some space for temporary files.")
        raise DataError(
            f"{paths.EXPORT / file.name}: expected to run in a fresh process, "
            f"found: {last.rstrip('.')}."
        )
    measured: dict[str, Any] = json.loads(ended.stdout)
    return measured
