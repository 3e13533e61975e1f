"""An exported network: found, compared with its manifest, loaded."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, Field, PositiveInt, model_validator

from src import paths
from src.errors import DataError, ParameterError, one_line
from src.export.quiet import quiet
from src.export.shipped import run
from src.storage.json_files import read_record
from src.storage.reading import digest, read_bytes

REPAIR = "Export anew: dvc repro export"
LIMIT = 2 << 30  # bytes of a file
# What runs a format, from the one that starts soonest.
RUNTIMES = {
    "onnx": "onnxruntime",
    "tflite": "ai_edge_litert",
    "numpy": "numpy",
    "stablehlo": "jax",
    "saved_model": "tensorflow",
    "tflite_int8": "ai_edge_litert",
}


Side = Annotated[int, Field(ge=1, le=4096)]  # pixels


class Pictures(BaseModel):
    """What goes in."""

    shape: tuple[str, Side, Side, Literal[1, 3]]  # "batch", height, width, channels
    background: float = Field(ge=0, le=255)


class Probabilities(BaseModel):
    """What comes out."""

    shape: tuple[str, PositiveInt]  # "batch", classes


class FormatFiles(BaseModel):
    """A format's files; `file` is what is loaded."""

    file: str
    files: list[str]
    sha256: str


class Parameters(BaseModel):
    """Of the training."""

    top_k: PositiveInt


class Model(BaseModel):
    """What was trained."""

    parameters: Parameters


class ExportManifest(BaseModel):
    """What must be known to use an export."""

    input: Pictures
    output: Probabilities
    class_names: list[str]
    formats: dict[str, FormatFiles]
    model: Model

    @model_validator(mode="after")
    def _each_class_has_a_name(self) -> Self:
        if len(self.class_names) != self.output.shape[1]:
            raise ValueError(f"{len(self.class_names)} names of classes")
        return self


class Exported(NamedTuple):
    """A network in one of its formats."""

    classify: Callable[[np.ndarray], np.ndarray]  # see `run.load`
    manifest: ExportManifest


def load_exported(file: Path | None) -> Exported:
    """Reads an export.

    Args:
        file: of any format, with `manifest.json` beside it; None: the quickest to start
            in `models/export`.

    Raises:
        DataError: a file is missing, changed, or none that the manifest knows.
        ParameterError: the format's runtime is not installed.
    """
    folder = file.parent if file else paths.EXPORT
    path = folder / "manifest.json"
    if file and not path.is_file():
        raise DataError(
            f"{file}: expected a file of an export, found no manifest.json beside it. "
            "Name one in models/export, or copy the manifest there."
        )
    manifest = read_record(path, ExportManifest, REPAIR)
    known = {entry.file: entry for entry in manifest.formats.values()}
    chosen = file.name if file else quickest(manifest)
    if chosen not in known:
        raise DataError(
            f"{folder / chosen}: expected one of the files that {path} knows "
            f"({', '.join(sorted(known))}), found another name. Name one of these."
        )
    contents = {
        name: read_bytes(folder / name, REPAIR, LIMIT) for name in known[chosen].files
    }
    if digest_of_files(contents) != known[chosen].sha256:
        raise DataError(
            f"{folder / chosen}: expected the content that {path} was written for, "
            f"found another: a file was changed or damaged. {REPAIR}"
        )
    try:
        with quiet():
            return Exported(run.load(folder / chosen), manifest)
    except ImportError as error:
        raise ParameterError(
            f"{folder / chosen}: expected the package {error.name or one_line(error)}, "
            "which runs it, to be installed, found it missing. Install it, or name "
            "another --model."
        ) from None
    except ValueError as error:  # no such format
        raise DataError(f"{one_line(error)}. Name one of its formats.") from None


def quickest(manifest: ExportManifest) -> str:
    """The file that starts soonest of those that can be run here."""
    there = [name for name in RUNTIMES if name in manifest.formats]
    installed = [name for name in there if find_spec(RUNTIMES[name]) is not None]
    return next((manifest.formats[name].file for name in installed or there), "none")


def digest_of_files(files: Mapping[str, bytes]) -> str:
    """SHA-256 of a file; of several, of what `sha256sum` says of them in order."""
    if len(files) == 1:
        return digest(*files.values())
    lines = [f"{digest(files[name])}  {name}\n" for name in sorted(files)]
    return digest("".join(lines).encode())
