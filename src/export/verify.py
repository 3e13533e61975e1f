"""Each exported file in a process of its own, on the whole test split.

That process is `run.py`, which is shipped beside the file: it imports nothing of this
project, only the runtime that a user of the file would install.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import numpy as np

from src import paths
from src.config.names import FormatName
from src.data.examples import Examples
from src.data.shards import find_shards, shard_name
from src.errors import DataError, StorageError
from src.export.formats import Export, Files, Format, format_module
from src.export.shipped.run import classify_all
from src.models.checkpoint import TrainedModel
from src.models.layer_list import layer_probabilities
from src.signals import raise_if_stopped
from src.storage.atomic import storage_errors
from src.storage.npz import read_arrays

TOLERANCE = 1e-5  # largest difference in probability that rounding may make
LOST = 0.005  # accuracy that a file of 8-bit integers may lose
ROUNDING = 1e-9  # of the difference of two shares
FROM_THE_NETWORK = ("stablehlo",)  # not from its list of layers
REPAIR = "Export anew: dvc repro export"


class Proof(NamedTuple):
    """What is known of a file that was run."""

    metrics: dict[str, Any]  # the same each time: for metrics/export.json
    latency: dict[str, Any]  # of this machine, at this moment


def lay_out(files: Files, folder: Path) -> None:
    """Writes the files where they are to be tried."""
    for name, content in files.items():
        path = folder / name
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def prove_all(
    names: Sequence[FormatName], export: Export, test: Examples, expected: np.ndarray
) -> dict[FormatName, Proof]:
    """Runs each format's file on the test split and compares.

    Args:
        names: of the formats.
        export: their files, as they are to be shipped.
        test: all of `data/prepared`'s test split.
        expected: the trained network's probabilities, `[examples, classes]`.

    Raises:
        DataError: a file does not run, or does not answer as the network does.
    """
    proofs: dict[FormatName, Proof] = {}
    with TemporaryDirectory(prefix="fourbeat-") as name_of_folder:
        folder = Path(name_of_folder)
        lay_out(export.files, folder)
        images = one_file(test, folder)
        for name in names:
            raise_if_stopped()
            module = format_module(name)
            answers = folder / f"{name}.npz"
            latency = run_fresh(folder / module.FILE, images, answers)
            found = read_arrays(answers, REPAIR)["probabilities"]
            metrics = compare(module, found, test.labels, expected)
            size = export.manifest["formats"][name]["bytes"]
            proofs[name] = Proof({"bytes": size, **metrics}, latency)
    return proofs


def one_file(test: Examples, folder: Path) -> Path:
    """All images of the test split: a copy in `folder` where they lie in several."""
    if not find_shards(paths.PREPARED, "test"):
        return paths.PREPARED / shard_name("test", 0)
    path = folder / "test_images.npy"
    with storage_errors(path):
        np.save(path, test.images, allow_pickle=False)
    return path


def run_fresh(file: Path, images: Path, answers: Path) -> dict[str, Any]:
    """Runs a file on these images; returns what `run.py` measured meanwhile.

    Raises:
        DataError: the process failed.
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
            f"{paths.EXPORT / file.name}: expected to run in a process of its own, "
            f"found: {last}. The file must not be shipped."
        )
    measured: dict[str, Any] = json.loads(ended.stdout)
    return measured


def compare(
    module: Format, found: np.ndarray, labels: np.ndarray, expected: np.ndarray
) -> dict[str, Any]:
    """How a file's probabilities differ from the network's, both `[examples, classes]`.

    `changed` counts the images that are taken for another class. In an exact format
    only those may be whose two most likely classes rounding can exchange.

    Raises:
        DataError: they differ by more than the format may.
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
        wrong = int((changed & (first - second > 2 * TOLERANCE)).sum())
        check_exact(module.FILE, metrics["largest_difference"], wrong)
    else:
        accuracy = float((expected.argmax(1) == labels).mean())
        check_close(module.FILE, metrics, accuracy)
    return metrics


def check_exact(file: str, largest: float, wrong: int) -> None:
    """Raises DataError where more than rounding was changed."""
    if not largest <= TOLERANCE or wrong:  # a NaN is not equal either
        raise DataError(
            f"{paths.EXPORT / file}: expected the trained network's probabilities "
            f"within {TOLERANCE}, found a difference of {largest:.2g}, and {wrong} "
            "images taken for another class. The file must not be shipped."
        )


def check_close(file: str, metrics: dict[str, Any], accuracy: float) -> None:
    """Raises DataError where a file lost more of `accuracy` than it may."""
    lost = accuracy - metrics["accuracy"]
    if not lost <= LOST + ROUNDING or not np.isfinite(metrics["largest_difference"]):
        raise DataError(
            f"{paths.EXPORT / file}: expected to lose at most {LOST:.1%} of accuracy, "
            f"found {lost:.2%}. Leave the format out of export_formats, or train a "
            "network that bears it: more weight_decay, another model."
        )


def layers_agree(
    trained: TrainedModel, images: np.ndarray, expected: np.ndarray
) -> bool:
    """Whether the list of layers, which most formats are made from, is the network.

    Args:
        trained: the network.
        images: uint8 `[examples, height, width, channels]`.
        expected: its probabilities, `[examples, classes]`.
    """
    played = jax.jit(
        partial(layer_probabilities, trained.model.layers(), trained.weights)
    )

    def classify(batch: np.ndarray) -> np.ndarray:
        return np.asarray(played(batch / np.float32(255)))

    try:
        found = classify_all(classify, images)
    except (KeyError, TypeError, ValueError):  # weights or shapes that do not fit
        return False
    if found.shape != expected.shape:
        return False
    return bool(np.abs(found - expected).max() <= TOLERANCE)


def check_layers(names: Sequence[FormatName], agree: bool) -> None:
    """Raises DataError where a format is asked for that a wrong list cannot give."""
    lost = [name for name in names if name not in FROM_THE_NETWORK]
    if lost and not agree:
        raise DataError(
            "src/models: layers: expected a list that gives the trained network's "
            f"probabilities within {TOLERANCE}, found one that does not. Tell there "
            f"what the network does, or leave {', '.join(lost)} out of export_formats."
        )


def summary(results: Mapping[FormatName, Mapping[str, Any]], examples: int) -> str:
    """What the stage says of its proofs, each kind of format by its own measure."""
    exact = [name for name in results if format_module(name).EXACT]
    said = []
    if exact:
        worst = max(results[name]["largest_difference"] for name in exact)
        said.append(
            f"{', '.join(exact)}: equal to the trained network on {examples} test "
            f"images (largest difference {worst:.1e})"
        )
    said += [
        f"{name}: another answer on {results[name]['changed']} of them, accuracy "
        f"{results[name]['accuracy']:.4f}"
        for name in results
        if name not in exact
    ]
    return "; ".join(said)
