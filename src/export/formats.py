"""The export formats, and the files of `models/export`."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import jax
import numpy as np

from src import paths
from src.config.names import FormatName
from src.data import pictures as picture_module
from src.data.lazy_images import Images, pieces
from src.data.prepared import PictureRecord
from src.errors import ParameterError
from src.export.load import digest_of_files
from src.export.program import make_program
from src.export.quiet import quiet
from src.models.checkpoint import TrainedModel
from src.signals import raise_if_stopped
from src.storage.atomic import AtomicCommit
from src.storage.json_files import record_bytes
from src.storage.npz import pack_arrays
from src.storage.reading import digest

CALIBRATION_IMAGES = 500  # training images that calibrate the int8 format

Files = dict[str, bytes]  # by path in models/export


class Format(Protocol):
    """The attributes of a format module `to_NAME`."""

    FILE: str  # file or folder in models/export
    RUNTIME: str | None  # pip packages that run it, besides numpy
    PACKAGES: tuple[str, ...]  # modules that the conversion and the proof import
    EXACT: bool  # whether it equals the trained network except for rounding

    def convert(self, trained: TrainedModel, calibration: np.ndarray) -> Files:
        """Returns the files. They include preprocessing and softmax.

        Args:
            trained: the network.
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


class Export(NamedTuple):
    """The content of `models/export`, except what the proofs add."""

    files: Files
    manifest: dict[str, Any]  # also in `files`, as manifest.json


def convert_all(
    names: Sequence[FormatName],
    trained: TrainedModel,
    train_images: Images,
    *,
    layers_agree: bool,
    pictures: PictureRecord | None = None,
) -> Export:
    """Makes the files of each format, the weights, the programs and the manifest.

    Args:
        names: of the formats.
        trained: the network.
        train_images: uint8 `[n, height, width, channels]`.
        layers_agree: whether `trained.model.layers` is correct, so that the manifest
            may list it.
        pictures: how prepare made the images of picture files; None: of other data.
    """
    calibration = calibration_images(train_images)
    files = {
        "weights.npz": bytes(pack_arrays(trained.weights)),
        "run.py": make_program(),
        "pictures.py": Path(picture_module.__file__).read_bytes(),
    }
    formats: dict[str, Any] = {}
    # Otherwise JAX writes source paths of this machine into the files.
    jax.config.update("jax_traceback_in_locations_limit", 0)
    # Sorted, because TensorFlow numbers functions in order of creation.
    for name in sorted(names):
        raise_if_stopped()
        module = format_module(name)
        with quiet():
            converted = module.convert(trained, calibration)
        formats[name] = {
            "bytes": sum(map(len, converted.values())),
            "file": module.FILE,
            "files": sorted(converted),
            "runtime": module.RUNTIME,
            "sha256": digest_of_files(converted),
        }
        files |= converted
    background = border_brightness(train_images)
    weights = digest(files["weights.npz"])
    manifest = build_manifest(trained, background, formats, weights)
    if pictures:
        manifest["input"]["pictures"] = pictures.model_dump(mode="json")
    if layers_agree:
        manifest["layers"] = [layer._asdict() for layer in trained.model.layers()]
    return Export(files | {"manifest.json": record_bytes(manifest)}, manifest)


def build_manifest(
    trained: TrainedModel, background: float, formats: dict[str, Any], weights: str
) -> dict[str, Any]:
    """The content of `manifest.json`: everything that a user of the files must know.

    Args:
        trained: the network.
        background: see `border_brightness`.
        formats: entries by name.
        weights: SHA-256 of `weights.npz`.
    """
    architecture = trained.record.architecture
    return {
        "input": {
            "type": "uint8",
            "shape": ["batch", *architecture.image_shape],
            "layout": "batch, height, width, channels",
            "background": round(background, 3),
        },
        "output": {
            "type": "float32",
            "shape": ["batch", architecture.classes],
            "meaning": "probability of each class",
        },
        "class_names": trained.record.class_names,
        "formats": formats,
        "weights": {"file": "weights.npz", "sha256": weights},
        "model": trained.record.model_dump(mode="json"),
    }


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
