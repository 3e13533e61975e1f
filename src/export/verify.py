"""Proves each exported file on the whole test split, by a process that runs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src import paths
from src.config.names import FormatName
from src.data.examples import Examples
from src.data.shards import find_shards, shard_name
from src.errors import DataError
from src.export.compare import compare
from src.export.faults import advice
from src.export.formats import format_module
from src.export.fresh_process import FreshProcesses
from src.export.manifest import Export
from src.export.rounding import allowed_differences
from src.signals import raise_if_stopped
from src.storage.atomic import storage_errors


class Proof(NamedTuple):
    """Measurements of a file."""

    metrics: dict[str, Any]  # reproducible, for metrics/details/export.json
    latency: dict[str, Any]  # depends on machine and moment, for latency.json


class Proofs(NamedTuple):
    """The formats whose files are proven, and a reason for each of the others."""

    proven: dict[FormatName, Proof]
    failed: dict[str, str]


def prove_all(
    names: Sequence[FormatName],
    processes: FreshProcesses,
    export: Export,
    labels: np.ndarray,
    expected: np.ndarray,
) -> Proofs:
    """Compares what the processes find with the network; then measures latencies.

    Args:
        names: of the formats; formats that the export left out are skipped.
        processes: one for each format, which runs its file on the test split.
        export: the files to ship.
        labels: of the test split, int32 `[examples]`.
        expected: the trained network's probabilities, `[examples, classes]`.
    """
    allowed = allowed_differences(expected, export.error)
    metrics: dict[FormatName, dict[str, Any]] = {}
    latency: dict[FormatName, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    wanted = [name for name in names if name in export.manifest["formats"]]
    for name in wanted:
        raise_if_stopped()
        try:
            found = processes.answers(name)
            compared = compare(format_module(name), found, labels, expected, allowed)
        except DataError as error:
            failed[name] = unproven(name, error)
            continue
        size = export.manifest["formats"][name]["bytes"]
        metrics[name] = {"bytes": size, **compared}
    for name in metrics:  # one after another, when no process computes answers
        raise_if_stopped()
        try:
            latency[name] = processes.latency(name)
        except DataError as error:
            failed[name] = unproven(name, error)
    proven = {name: Proof(metrics[name], latency[name]) for name in latency}
    return Proofs(proven, failed)


def unproven(name: FormatName, error: DataError) -> str:
    """The line on a format whose file is not proven."""
    repair = advice(name, exact=format_module(name).EXACT)
    return f"{error} It is left out: {repair}."


def image_file(test: Examples, folder: Path) -> Path:
    """A file with all test images: the split's own, or a copy if it has shards.

    Args:
        test: the test split.
        folder: where to write the copy.
    """
    if not find_shards(paths.PREPARED, "test"):
        return paths.PREPARED / shard_name("test", 0)
    path = folder / "test_images.npy"
    with storage_errors(path):
        np.save(path, test.images, allow_pickle=False)
    return path
