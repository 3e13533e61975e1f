"""Proves each exported file on the whole test split, in a fresh process.

The process runs the `run.py` that ships with the file. It imports nothing of this
project, only the runtime that a user of the file would install.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from src import paths
from src.config.names import FormatName
from src.data.examples import Examples
from src.data.shards import find_shards, shard_name
from src.errors import DataError, StorageError
from src.export.formats import Format, format_module
from src.export.load import REPAIR_EXPORT
from src.export.manifest import Export, Files
from src.export.rounding import allowed_differences
from src.signals import raise_if_stopped
from src.storage.atomic import storage_errors
from src.storage.npz import read_arrays

MAX_ACCURACY_LOSS = 0.005  # of an inexact format
ROUNDING = 1e-9  # error of the difference of two accuracies


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
                failed[name] = f"{error} {advice(name)}"
                continue
            size = export.manifest["formats"][name]["bytes"]
            proofs[name] = Proof({"bytes": size, **metrics}, latency)
    return Proofs(proofs, failed)


def advice(name: FormatName) -> str:
    """What to do about a file that is not proven."""
    if format_module(name).EXACT:
        return (
            f"It is left out: remove {name} from export_formats, or write the layer "
            "with other operations."
        )
    return (
        f"It is left out: remove {name} from export_formats, or train with more "
        "weight_decay or another model."
    )


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


def compare(
    module: Format,
    found: np.ndarray,
    labels: np.ndarray,
    expected: np.ndarray,
    allowed: np.ndarray,
) -> dict[str, Any]:
    """Compares a file's probabilities with the network's, both `[examples, classes]`.

    `changed` counts the changed predictions. An exact format may change a prediction
    only if the network's top two classes tie within twice the allowed difference.

    Args:
        module: the format.
        found: the file's probabilities.
        labels: int32 `[examples]`.
        expected: the network's.
        allowed: of an exact format, `[examples]`, see `rounding`.

    Raises:
        DataError: the probabilities differ by more than the format may.
    """
    gaps = np.abs(found.astype(np.float64) - expected)
    changed = found.argmax(1) != expected.argmax(1)
    metrics = {
        "accuracy": float((found.argmax(1) == labels).mean()),
        "changed": int(changed.sum()),
        "largest_difference": float(gaps.max()),
        "mean_difference": float(gaps.mean()),
    }
    if module.EXACT:
        first, second = -np.sort(-expected, axis=1)[:, :2].T
        beyond_ties = int((changed & (first - second > 2 * allowed)).sum())
        check_exact(module.FILE, gaps.max(1), allowed, beyond_ties)
    else:
        accuracy = float((expected.argmax(1) == labels).mean())
        check_inexact(module.FILE, metrics, accuracy)
    return metrics


def check_exact(file: str, gaps: np.ndarray, allowed: np.ndarray, changed: int) -> None:
    """Raises DataError if an exact format differs by more than rounding.

    Args:
        file: its name.
        gaps: largest difference of each image.
        allowed: the largest that rounding explains.
        changed: changed predictions that are no ties.
    """
    worst = int(np.argmax(np.nan_to_num(gaps / allowed, nan=np.inf)))
    if not gaps[worst] <= allowed[worst] or changed:  # `not <=` also refuses NaN
        raise DataError(
            f"{paths.EXPORT / file}: expected the trained network's probabilities "
            f"within {allowed[worst]:.2g} (rounding), found a difference of "
            f"{gaps[worst]:.2g} and {changed} changed predictions."
        )


def check_inexact(file: str, metrics: dict[str, Any], accuracy: float) -> None:
    """Raises DataError if an inexact format lost too much of `accuracy`."""
    loss, largest = accuracy - metrics["accuracy"], metrics["largest_difference"]
    if not loss <= MAX_ACCURACY_LOSS + ROUNDING or not np.isfinite(largest):
        raise DataError(
            f"{paths.EXPORT / file}: expected to lose at most {MAX_ACCURACY_LOSS:.1%} "
            f"of accuracy, found {loss:.2%}."
        )


def accuracy_differences(
    results: Mapping[FormatName, Mapping[str, Any]],
    expected: np.ndarray,
    labels: np.ndarray,
) -> dict[FormatName, dict[str, float]]:
    """The accuracy of each format whose accuracy differs from the network's.

    Args:
        results: measurements by format.
        expected: the network's probabilities, `[examples, classes]`.
        labels: int32 `[examples]`.
    """
    accuracy = float((expected.argmax(1) == labels).mean())
    return {
        name: {"accuracy": measured["accuracy"]}
        for name, measured in results.items()
        if measured["accuracy"] != accuracy
    }


def summary(results: Mapping[FormatName, Mapping[str, Any]], examples: int) -> str:
    """One line on all proofs: exact formats together, then each inexact format."""
    exact = [name for name in results if format_module(name).EXACT]
    parts = []
    if exact:
        worst = max(results[name]["largest_difference"] for name in exact)
        changed = sum(results[name]["changed"] for name in exact)
        parts.append(
            f"{', '.join(exact)}: max difference {worst:.1e}; {changed} predictions "
            f"changed on {examples} test images"
        )
    parts += [
        f"{name}: {results[name]['changed']} predictions changed, accuracy "
        f"{results[name]['accuracy']:.4f}"
        for name in results
        if name not in exact
    ]
    return ". ".join(parts)
