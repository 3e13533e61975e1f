"""Loads an exported network, after checking its files against the manifest."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, PositiveInt, model_validator

from src import paths
from src.data.prepared import PictureRecord
from src.errors import DataError, ParameterError, one_line
from src.export.quiet import quiet
from src.export.shipped import runtimes
from src.export.unlike import UNLIKE_FILE, read_centres
from src.storage.json_files import read_record
from src.storage.reading import digest, read_bytes

REPAIR_EXPORT = "Recreate it: dvc repro export"
MAX_EXPORT_FILE = 2 << 30  # bytes
# The package that runs a format, by format. The first format starts fastest.
RUNTIMES = {
    "onnx": "onnxruntime",
    "tflite": "ai_edge_litert",
    "numpy": "numpy",
    "stablehlo": "jax",
    "saved_model": "tensorflow",
    "tflite_int8": "ai_edge_litert",
}


InputSide = Annotated[int, Field(ge=1, le=4096)]  # pixels


class InputEntry(BaseModel):
    """The images that the network takes."""

    # "batch", height, width, channels
    shape: tuple[str, InputSide, InputSide, Literal[1, 3]]
    background: float = Field(ge=0, le=255)
    pictures: PictureRecord | None = None  # of a network of picture files

    @model_validator(mode="after")
    def _pictures_have_the_shape(self) -> Self:
        made = self.pictures
        if made and (*made.size, made.channels) != self.shape[1:]:
            raise ValueError(f"pictures of {made.size} with {made.channels} channels")
        return self


class OutputEntry(BaseModel):
    """The probabilities that the network returns."""

    shape: tuple[str, PositiveInt]  # "batch", classes


class FormatEntry(BaseModel):
    """The files of a format; `file` is the one to load."""

    file: str
    files: list[str]
    sha256: str


class UsedParameters(BaseModel):
    """The training parameters that predictions use."""

    top_k: PositiveInt


class ModelEntry(BaseModel):
    """The record of the trained network."""

    parameters: UsedParameters
    sha256: str  # of its weights


class UnlikeEntry(BaseModel):
    """Which pictures are unlike the training pictures; see `src.export.unlike`."""

    sha256: str  # of the centres
    threshold: FiniteFloat  # a higher score is unlike
    quantile: float = Field(gt=0, lt=1)  # of the validation pictures, at most that


class ExportManifest(BaseModel):
    """The required keys of `models/export/manifest.json`."""

    input: InputEntry
    output: OutputEntry
    class_names: list[str]
    threshold: float | None = Field(None, ge=0, le=1)  # of the second of two classes
    reject_below: float | None = Field(None, ge=0, le=1)
    formats: dict[str, FormatEntry]
    model: ModelEntry
    unlike: UnlikeEntry | None = None  # of older exports

    @model_validator(mode="after")
    def _each_class_has_a_name(self) -> Self:
        if len(self.class_names) != self.output.shape[1]:
            raise ValueError(f"{len(self.class_names)} class names")
        if self.threshold is not None and len(self.class_names) != 2:
            raise ValueError(f"a threshold for {len(self.class_names)} classes")
        return self


class Exported(NamedTuple):
    """A loaded network."""

    classify: Callable[[np.ndarray], np.ndarray]  # see `runtimes.load`
    manifest: ExportManifest
    # See `unlike_scores`; None: of an older export, or not copied with the file.
    centres: np.ndarray | None


def load_exported(file: Path | None) -> Exported:
    """Loads an exported network.

    Args:
        file: an exported file in the folder of its `manifest.json`; None: the file in
            `models/export` that starts fastest here.

    Raises:
        DataError: a file is missing, changed or not in the manifest.
        ParameterError: the runtime of the format is not installed.
    """
    folder = file.parent if file else paths.EXPORT
    path = folder / "manifest.json"
    if file and not path.is_file():
        raise DataError(
            f"{file}: expected a file of an export, found no manifest.json in its "
            "folder. Name a file in models/export, or copy the manifest."
        )
    manifest = read_record(path, ExportManifest, REPAIR_EXPORT)
    known = {entry.file: entry for entry in manifest.formats.values()}
    chosen = file.name if file else fastest_file(manifest)
    if chosen not in known:
        raise DataError(
            f"{folder / chosen}: expected one of the files in {path} "
            f"({', '.join(sorted(known))}), found '{chosen}'. Name one of these."
        )
    contents = {
        name: read_bytes(folder / name, REPAIR_EXPORT, MAX_EXPORT_FILE)
        for name in known[chosen].files
    }
    expected, found = known[chosen].sha256, digest_of_files(contents)
    if found != expected:
        raise DataError(
            f"{folder / chosen}: expected SHA-256 {expected[:12]}... as in {path}, "
            f"found {found[:12]}...: a file was changed or damaged. {REPAIR_EXPORT}"
        )
    centres = load_centres(folder, manifest)
    try:
        with quiet():
            return Exported(runtimes.load(folder / chosen), manifest, centres)
    except ImportError as error:
        raise ParameterError(
            f"{folder / chosen}: expected the package {error.name or one_line(error)}, "
            "which runs it, found that it is not installed. Install it, or name "
            "another --model."
        ) from None
    except ValueError as error:  # the file name matches no format
        raise DataError(f"{one_line(error)}. Name one of its formats.") from None


def load_centres(folder: Path, manifest: ExportManifest) -> np.ndarray | None:
    """The typical training pictures, if they are there.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / UNLIKE_FILE
    if manifest.unlike is None or not path.exists():
        return None
    shape, sha256 = manifest.input.shape[1:], manifest.unlike.sha256
    return read_centres(path, sha256, shape, REPAIR_EXPORT)


def fastest_file(manifest: ExportManifest) -> str:
    """The file that starts fastest among those whose runtime is installed."""
    exported = [name for name in RUNTIMES if name in manifest.formats]
    runnable = [name for name in exported if find_spec(RUNTIMES[name]) is not None]
    return next((manifest.formats[name].file for name in runnable or exported), "none")


def digest_of_files(files: Mapping[str, bytes]) -> str:
    """SHA-256 of one file; of several files, of the output of `sha256sum` on them."""
    if len(files) == 1:
        return digest(*files.values())
    lines = [f"{digest(files[name])}  {name}\n" for name in sorted(files)]
    return digest("".join(lines).encode())
