"""The export formats, and the files of `models/export`."""

import importlib.util
from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np

from src import paths
from src.config.names import FormatName
from src.data.lazy_images import Images, pieces
from src.errors import ParameterError
from src.export.load import digest_of_files
from src.export.manifest import Files
from src.export.network import Network
from src.export.tensorflow_converter import Program
from src.export.tflite_facts import tflite_facts
from src.storage.atomic import AtomicCommit

CALIBRATION_IMAGES = 500  # training images that calibrate the int8 format


class Format(Protocol):
    """The attributes of a format module `to_NAME`."""

    FILE: str  # file or folder in models/export
    RUNTIME: str | None  # pip packages that run it, besides numpy
    PACKAGES: tuple[str, ...]  # modules that the conversion and the proof import
    EXACT: bool  # whether it equals the trained network except for rounding

    def convert(self, network: Network, calibration: np.ndarray) -> Files | Program:
        """Returns the files, or the program that TensorFlow makes them of.

        They include preprocessing and softmax.

        Args:
            network: the network.
            calibration: training images, uint8 `[n, height, width, channels]`.
        """


def format_module(name: FormatName) -> Format:
    """Imports the module of a format."""
    return cast(Format, importlib.import_module(f"src.export.to_{name}"))


def check_packages(names: Sequence[FormatName]) -> None:
    """Raises ParameterError if a package that a format needs is not installed."""
    for name in names:
        for package in format_module(name).PACKAGES:
            if importlib.util.find_spec(package) is None:
                raise ParameterError(
                    f"{paths.PARAMS}: export_formats: expected formats whose packages "
                    f"are installed, found {name} without {package}. Install it (make "
                    f"setup) or remove {name}."
                )


def calibration_images(images: Images) -> np.ndarray:
    """At most `CALIBRATION_IMAGES` of the training images, evenly spaced."""
    count = min(len(images), CALIBRATION_IMAGES)
    return images[np.linspace(0, len(images) - 1, count).astype(int)]


def border_brightness(images: Images) -> float:
    """The background: the mean of the outermost pixels, in [0, 255]."""
    sums, sizes = np.zeros(4, np.int64), np.zeros(4, np.int64)
    for piece in pieces(images):
        edges = piece[:, 0], piece[:, -1], piece[:, :, 0], piece[:, :, -1]
        sums += [edge.sum(dtype=np.int64) for edge in edges]
        sizes += [edge.size for edge in edges]
    return float(np.mean(sums / sizes))


def describe(name: FormatName, files: Files) -> dict[str, Any]:
    """A format's entry in the manifest."""
    module = format_module(name)
    entry = {
        "bytes": sum(map(len, files.values())),
        "file": module.FILE,
        "files": sorted(files),
        "runtime": module.RUNTIME,
        "sha256": digest_of_files(files),
    }
    if module.FILE.endswith(".tflite"):
        entry["tflite"] = tflite_facts(files[module.FILE])
    return entry


def write_files(files: Files, outputs: AtomicCommit) -> None:
    """Replaces the content of `models/export` with these files.

    Raises:
        StorageError: a file cannot be written.
    """
    kept = {paths.EXPORT / name for name in files}
    kept |= {folder for path in kept for folder in path.parents}
    for old in paths.EXPORT.rglob("*"):
        if old not in kept:
            outputs.remove(old)
    for name, content in files.items():
        outputs.write(paths.EXPORT / name, content)
