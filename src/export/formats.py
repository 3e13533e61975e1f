"""The formats by name, and the files that `models/export` is made of."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from src import paths
from src.config.names import FormatName
from src.data.lazy_images import Images, pieces
from src.errors import ParameterError
from src.export import numpy, onnx, saved_model, stablehlo, tflite, tflite_int8
from src.export.load import digest_of_files
from src.export.quiet import quiet
from src.export.shipped import run
from src.models.checkpoint import TrainedModel
from src.signals import raise_if_stopped
from src.storage.atomic import AtomicCommit
from src.storage.json_files import record_bytes
from src.storage.npz import pack_arrays
from src.storage.reading import digest

CALIBRATION = 500  # training images that int8 takes its ranges from

Files = dict[str, bytes]  # by name in models/export


class Format(Protocol):
    """What a module of this package offers."""

    FILE: str  # or folder, in models/export
    RUNTIME: str | None  # what runs it beside numpy, as pip knows it
    PACKAGES: tuple[str, ...]  # that are imported to make and to run it
    EXACT: bool  # whether its probabilities are the network's but for rounding

    def convert(self, trained: TrainedModel, calibration: np.ndarray) -> Files:
        """The files that run the network: preprocessing and softmax are inside.

        Args:
            trained: the network.
            calibration: training images, uint8 `[n, height, width, channels]`.
        """


def format_module(name: FormatName) -> Format:
    """The module of a format."""
    match name:
        case "stablehlo":
            return stablehlo
        case "saved_model":
            return saved_model
        case "tflite":
            return tflite
        case "tflite_int8":
            return tflite_int8
        case "onnx":
            return onnx
        case "numpy":
            return numpy


def check_packages(names: Sequence[FormatName]) -> None:
    """Raises ParameterError where a format needs what is not installed."""
    for name in names:
        for package in format_module(name).PACKAGES:
            if importlib.util.find_spec(package) is None:
                raise ParameterError(
                    f"{paths.PARAMS}: export_formats: expected formats whose packages "
                    f"are installed, found {name} without {package}. Install it (make "
                    f"setup), or leave {name} out."
                )


def calibration_images(images: Images) -> np.ndarray:
    """At most `CALIBRATION` of the training images, evenly from first to last."""
    count = min(len(images), CALIBRATION)
    return images[np.linspace(0, len(images) - 1, count).astype(int)]


def border_brightness(images: Images) -> float:
    """The mean of the outermost pixels, 0 to 255: what surrounds the thing shown."""
    sums, sizes = np.zeros(4, np.int64), np.zeros(4, np.int64)
    for piece in pieces(images):
        edges = piece[:, 0], piece[:, -1], piece[:, :, 0], piece[:, :, -1]
        sums += [edge.sum(dtype=np.int64) for edge in edges]
        sizes += [edge.size for edge in edges]
    return float(np.mean(sums / sizes))


class Export(NamedTuple):
    """What is to be shipped."""

    files: Files
    manifest: dict[str, Any]  # also among the files


def convert_all(
    names: Sequence[FormatName],
    trained: TrainedModel,
    train_images: Images,
    *,
    layers_agree: bool,
) -> Export:
    """The files of each format, the weights, what runs them, and the manifest.

    Args:
        names: of the formats.
        trained: the network.
        train_images: uint8 `[n, height, width, channels]`.
        layers_agree: whether the manifest may say what `trained.model.layers` says.
    """
    calibration = calibration_images(train_images)
    files = {
        "weights.npz": bytes(pack_arrays(trained.weights)),
        "run.py": Path(run.__file__).read_bytes(),
    }
    formats: dict[str, Any] = {}
    # No traceback of this machine's paths beside each operation.
    jax.config.update("jax_traceback_in_locations_limit", 0)
    # Always in one order: TensorFlow numbers what it is given.
    for name in sorted(names):
        raise_if_stopped()
        module = format_module(name)
        with quiet():
            made = module.convert(trained, calibration)
        formats[name] = {
            "bytes": sum(map(len, made.values())),
            "file": module.FILE,
            "files": sorted(made),
            "runtime": module.RUNTIME,
            "sha256": digest_of_files(made),
        }
        files |= made
    background = border_brightness(train_images)
    manifest = manifest_of(trained, background, formats, digest(files["weights.npz"]))
    if layers_agree:
        manifest["layers"] = [layer._asdict() for layer in trained.model.layers()]
    return Export(files | {"manifest.json": record_bytes(manifest)}, manifest)


def manifest_of(
    trained: TrainedModel, background: float, formats: dict[str, Any], weights: str
) -> dict[str, Any]:
    """What `manifest.json` says: all that one must know to use the files."""
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
    """Writes `models/export` anew: these files, and no others.

    Raises:
        StorageError: one cannot be written.
    """
    kept = {paths.EXPORT / name for name in files}
    kept |= {folder for path in kept for folder in path.parents}
    for old in paths.EXPORT.rglob("*"):
        if old not in kept:
            outputs.remove(old)
    for name, content in files.items():
        outputs.write(paths.EXPORT / name, content)
