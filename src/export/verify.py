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
from src.evaluation.decision import Decision
from src.export.compare import accuracy_differences, compare
from src.export.faults import advice
from src.export.formats import format_module
from src.export.fresh_process import FreshProcesses
from src.export.latency import NETWORK, time_network
from src.export.manifest import Export
from src.export.rounding import allowed_differences
from src.export.shipped.runtimes import Classify
from src.runtime.progress import with_progress
from src.signals import raise_if_stopped
from src.storage.atomic import storage_errors


class Proofs(NamedTuple):
    """The measurements of proven formats, and a reason for each of the others."""

    examples: int  # of the test split
    metrics: dict[FormatName, dict[str, Any]]  # reproducible
    differing: dict[FormatName, dict[str, float]]  # see `accuracy_differences`
    # Of the formats and the network: depends on machine and moment.
    latency: dict[str, dict[str, Any]]
    failed: dict[str, str]


def prove_all(
    names: Sequence[FormatName],
    processes: FreshProcesses,
    export: Export,
    test: Examples,
    expected: np.ndarray,
    network: Classify,
) -> Proofs:
    """Compares what the processes find with the network; then measures latencies.

    Args:
        names: of the formats; formats that the export left out are skipped.
        processes: one for each format, which runs its file on the test split.
        export: the files to ship.
        test: the whole test split.
        expected: the trained network's probabilities, `[examples, classes]`.
        network: the trained network, compiled.
    """
    allowed = allowed_differences(expected, export.error)
    manifest = export.manifest
    decision = Decision.of(manifest)
    metrics: dict[FormatName, dict[str, Any]] = {}
    latency: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for name in with_progress(names, len(names), "comparing", "format"):
        raise_if_stopped()
        if name not in manifest["formats"]:
            continue
        module, size = format_module(name), manifest["formats"][name]["bytes"]
        try:
            found = processes.answers(name)
            compared = compare(module, found, test.labels, expected, allowed, decision)
        except DataError as error:
            failed[name] = unproven(name, error)
            continue
        metrics[name] = {"bytes": size, **compared}
    # One after another, when no process computes answers any more.
    proven = list(metrics)
    for name in with_progress(proven, len(proven), "timing", "format"):
        raise_if_stopped()
        try:
            latency[name] = processes.latency(name)
        except DataError as error:
            failed[name] = unproven(name, error)
            del metrics[name]
    latency[NETWORK] = time_network(network, test.images)
    differing = accuracy_differences(metrics, expected, test.labels, decision)
    return Proofs(len(test.labels), metrics, differing, latency, failed)


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
