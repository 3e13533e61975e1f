"""The export formats, and the files of `models/export`."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import jax
import numpy as np

from src import paths
from src.config.names import FormatName
from src.data import pictures as picture_module
from src.data.lazy_images import Images, pieces
from src.data.prepared import PictureRecord
from src.errors import ParameterError
from src.export.faults import (
    OTHER_LAYER,
    advice,
    converter_error,
    left_out,
    without_operator,
)
from src.export.graph import UnsupportedError
from src.export.load import digest_of_files
from src.export.manifest import Export, Files, build_manifest, leave_out
from src.export.network import Network, prepare_network
from src.export.program import make_program
from src.export.quiet import quiet
from src.export.tflite_facts import tflite_facts
from src.models.checkpoint import TrainedModel
from src.signals import raise_if_stopped
from src.storage.atomic import AtomicCommit
from src.storage.npz import pack_arrays
from src.storage.reading import digest

CALIBRATION_IMAGES = 500  # training images that calibrate the int8 format


class Format(Protocol):
    """The attributes of a format module `to_NAME`."""

    FILE: str  # file or folder in models/export
    RUNTIME: str | None  # pip packages that run it, besides numpy
    PACKAGES: tuple[str, ...]  # modules that the conversion and the proof import
    EXACT: bool  # whether it equals the trained network except for rounding

    def convert(self, network: Network, calibration: np.ndarray) -> Files:
        """Returns the files. They include preprocessing and softmax.

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


def convert_all(
    names: Sequence[FormatName],
    trained: TrainedModel,
    train_images: Images,
    *,
    pictures: PictureRecord | None = None,
) -> Export:
    """Makes the files of each format, the weights, the programs and the manifest.

    A format that the network cannot be converted to is left out, with a reason.

    Args:
        names: of the formats.
        trained: the network.
        train_images: uint8 `[n, height, width, channels]`.
        pictures: how prepare made the images of picture files; None: of other data.

    Raises:
        DataError: no format is left.
    """
    calibration = calibration_images(train_images)
    network = prepare_network(trained, calibration)
    files = {
        "weights.npz": bytes(pack_arrays(trained.weights)),
        "run.py": make_program(),
        "pictures.py": Path(picture_module.__file__).read_bytes(),
    }
    background, weights = border_brightness(train_images), digest(files["weights.npz"])
    manifest = build_manifest(network, background, weights, pictures)
    reasons: dict[str, str] = {}
    if network.graph is None:
        found = without_operator(network.unsupported)
        reasons["demo"] = left_out(paths.EXPORT / "demo.html", found, OTHER_LAYER)
    # Otherwise JAX writes source paths of this machine into the files.
    jax.config.update("jax_traceback_in_locations_limit", 0)
    # Sorted, because TensorFlow numbers functions in order of creation.
    for name in sorted(names):
        raise_if_stopped()
        try:
            converted = convert_one(name, network, calibration)
        except ConversionError as error:
            reasons[name] = str(error)
            continue
        manifest["formats"][name] = describe(name, converted)
        files |= converted
    return leave_out(Export(files, manifest, network.graph, network.error), reasons)


class ConversionError(Exception):
    """A network cannot be converted to a format; the message is one line."""


def convert_one(name: FormatName, network: Network, calibration: np.ndarray) -> Files:
    """The files of one format.

    Raises:
        ConversionError: the converter refuses the network.
    """
    module = format_module(name)
    with quiet():
        try:
            return module.convert(network, calibration)
        except UnsupportedError as error:
            found = without_operator(str(error))
        except Exception as error:  # noqa: BLE001 - each converter has its own
            found = f"expected a network to convert, found {converter_error(error)}"
    file, repair = paths.EXPORT / module.FILE, advice(name, exact=True)
    raise ConversionError(left_out(file, found, repair))


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
