"""Reads weights from data/weights. People put files there, so nothing is trusted."""

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from src import paths
from src.config.names import Finite, Positive
from src.data.pixel_statistics import PixelStatistics
from src.errors import DataError, ParameterError, shortened, suggestion
from src.models.architecture import Weights
from src.storage.json_files import read_record
from src.storage.reading import CACHED, digest, read_bytes
from src.storage.tensors import unpack_tensors

ROOT = paths.INITIAL_WEIGHTS
MAX_BYTES = 1 << 32  # ResNet-18 has 47 million, the largest of torchvision 2.5 billion
PICKLES = {".pth", ".pt", ".bin", ".ckpt", ".pkl"}
GUIDE = "docs/how-to/fine-tune.md"
DOWNLOAD_AGAIN = "Copy or download it again, as .safetensors with float32."


class SourceArchitecture(BaseModel, frozen=True, extra="allow"):
    """The settings of another network that matter here; old files lack the pixels."""

    model: str
    pixel_mean: tuple[Finite, ...] | None = None
    pixel_deviation: tuple[Positive, ...] | None = None


class SourceRecord(BaseModel, frozen=True, extra="allow"):
    """The keys of another model's `model.json` that matter here."""

    architecture: SourceArchitecture
    class_names: list[str]
    sha256: str  # of model.safetensors


@dataclass(frozen=True)
class WeightFile:
    """The content of a file of weights, and what is known of its network."""

    path: Path
    arrays: Weights  # by the names in the file
    sha256: str
    model: str | None = None  # None, here and below: unknown
    class_names: list[str] | None = None
    normalizes: bool | None = None
    pixels: PixelStatistics | None = None


def read_weight_file(name: str) -> WeightFile:
    """Reads a model folder or a .safetensors file in data/weights.

    Args:
        name: of the folder or file in data/weights, with or without that folder.

    Raises:
        ParameterError: the name leads out of data/weights.
        DataError: there is no such file, or it is damaged or of another kind.
    """
    path = find(name.removeprefix(f"{ROOT}/"))
    if path.is_dir():
        path = path / paths.WEIGHTS.name
        check_inside(path)
    record = path.with_name(paths.MODEL.name)
    if path.name == paths.WEIGHTS.name and record.exists():
        check_inside(record)
        return read_model(path, record)
    arrays, sha256 = read_arrays(path, DOWNLOAD_AGAIN)
    return WeightFile(path, arrays, sha256)


def read_model(path: Path, record_path: Path) -> WeightFile:
    """Reads the weights and the record of a trained model.

    Raises:
        DataError: a file is missing or damaged, or they are of different models.
    """
    repair = "Copy model.safetensors and model.json again, both of one model."
    record = read_record(record_path, SourceRecord, repair)
    arrays, sha256 = read_arrays(path, repair, record.sha256)
    mean = record.architecture.pixel_mean
    deviation = record.architecture.pixel_deviation
    pixels = PixelStatistics(mean, deviation) if mean and deviation else None
    if pixels and len(pixels.mean) != len(pixels.deviation):
        raise DataError(
            f"{record_path}: architecture: expected as many pixel_deviation as "
            f"pixel_mean, found {len(pixels.deviation)} and {len(pixels.mean)}. "
            f"{repair}"
        )
    return WeightFile(
        path,
        arrays,
        sha256,
        model=record.architecture.model,
        class_names=record.class_names,
        normalizes=pixels is not None,
        pixels=pixels,
    )


def find(name: str) -> Path:
    """The path of an existing file or folder in data/weights.

    Raises:
        ParameterError: the name leads out of data/weights.
        DataError: there is none.
    """
    path = ROOT / name
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise ParameterError(
            f"params.yaml: init_from: expected a name in {ROOT}, found "
            f"{shortened(name)}. Copy the file or folder there."
        )
    if not path.exists():
        there = sorted(each.name for each in ROOT.glob("*"))
        raise DataError(
            f"{path}: expected a model folder or a .safetensors file, found none."
            f"{suggestion(name, there) or ' Copy it there.'} A queued or --temp run "
            f"also needs --copy-paths {path}"
        )
    check_inside(path)
    if path.suffix in PICKLES:
        raise DataError(
            f"{path}: expected a .safetensors file, found a pickle, which could run "
            f"code. Convert it as {GUIDE} shows."
        )
    return path


def check_inside(path: Path) -> None:
    """Raises DataError if a link leads out of data/weights: DVC would not follow it."""
    real = Path(os.path.realpath(path))  # `resolve` fails for a link to itself
    if not real.is_relative_to(ROOT.resolve()) and not CACHED.search(str(real)):
        raise DataError(
            f"{path}: expected a file or folder, found a link out of {ROOT}. Copy it "
            "there."
        )


def read_arrays(
    path: Path, repair: str, sha256: str | None = None
) -> tuple[Weights, str]:
    """The arrays of a safetensors file and its SHA-256.

    Args:
        path: the file.
        repair: what to do if it is missing or damaged, a sentence.
        sha256: the recorded digest, if there is one.

    Raises:
        DataError: there is no such file, it is too large, changed or damaged, or has a
            dtype that numpy lacks.
    """
    content = read_bytes(path, repair, MAX_BYTES, sha256)
    return unpack_tensors(path, content, repair), digest(content)
