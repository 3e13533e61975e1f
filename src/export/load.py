"""An exported network: found, compared with its manifest, loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel

from src import paths
from src.errors import DataError, ParameterError
from src.export.quiet import quiet
from src.export.shipped import run
from src.files import digest_of_files, one_line, read_bytes, read_record

REPAIR = "Export anew: dvc repro export"
LIMIT = 2 << 30  # bytes of a file
# From the one that starts soonest.
PREFERRED = "onnx", "tflite", "numpy", "stablehlo", "saved_model", "tflite_int8"


class Pictures(BaseModel):
    """What goes in."""

    shape: tuple[str, int, int, int]  # "batch", height, width, channels
    background: float


class FormatFiles(BaseModel):
    """A format's files; `file` is what is loaded."""

    file: str
    files: list[str]
    sha256: str


class Parameters(BaseModel):
    """Of the training."""

    top_k: int


class Model(BaseModel):
    """What was trained."""

    parameters: Parameters


class ExportManifest(BaseModel):
    """What must be known to use an export."""

    input: Pictures
    class_names: list[str]
    formats: dict[str, FormatFiles]
    model: Model


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
    manifest = read_record(path, ExportManifest, REPAIR)
    known = {entry.file: entry for entry in manifest.formats.values()}
    if file is None:
        names = [name for name in PREFERRED if name in manifest.formats]
        chosen = manifest.formats[names[0]].file if names else "none"
    else:
        chosen = file.name
    if chosen not in known:
        raise DataError(
            f"{folder / chosen}: expected one of the files that {path} knows "
            f"({', '.join(sorted(known))}), found another. Name one of these."
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
    except ModuleNotFoundError as error:
        raise ParameterError(
            f"{folder / chosen}: expected the package {error.name}, which runs it, to "
            "be installed, found it missing. Install it, or name another --model."
        ) from None
    except ValueError as error:  # no such format
        raise DataError(f"{one_line(error)}. Name one of its formats.") from None
