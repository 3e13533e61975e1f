"""`manifest.json`: everything that a user of the exported files must know."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from src.data.examples import Examples
from src.data.lazy_images import Images
from src.data.prepared import PictureRecord
from src.errors import DataError
from src.evaluation.decision import Decision
from src.export.demo_page import demo_page
from src.export.graph import Graph
from src.export.unlike import (
    QUANTILE,
    UNLIKE_FILE,
    typical_pictures,
    unlike_threshold,
)
from src.models.checkpoint import TrainedModel
from src.storage.json_files import record_bytes
from src.storage.npz import pack_arrays
from src.storage.reading import digest

Files = dict[str, bytes]  # by path in models/export


class Export(NamedTuple):
    """The content of `models/export`, except what the proofs add."""

    files: Files
    manifest: dict[str, Any]  # also in `files`, as manifest.json
    graph: Graph | None  # as in the manifest, with its constants
    error: float  # of the logits by rounding, see `rounding.logit_error`


def build_manifest(
    trained: TrainedModel,
    background: float,
    weights: str,
    pictures: PictureRecord | None,
    decision: Decision,
) -> dict[str, Any]:
    """The manifest without formats and graph.

    Args:
        trained: the network.
        background: see `formats.border_brightness`.
        weights: SHA-256 of `weights.npz`.
        pictures: how prepare made the images of picture files; None: of other data.
        decision: how probabilities become answers.
    """
    architecture = trained.record.architecture
    manifest: dict[str, Any] = {
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
        **decision._asdict(),
        "formats": {},
        "left_out": {},
        "weights": {"file": "weights.npz", "sha256": weights},
        "model": trained.record.model_dump(mode="json"),
    }
    if pictures:
        manifest["input"]["pictures"] = pictures.model_dump(mode="json")
    return manifest


def leave_out(export: Export, reasons: Mapping[str, str]) -> Export:
    """The export without some formats; the manifest gives the reasons.

    Args:
        export: all files.
        reasons: one line by name of a format, or of "demo".

    Raises:
        DataError: no format is left.
    """
    formats = export.manifest["formats"]
    kept = {name: entry for name, entry in formats.items() if name not in reasons}
    left_out = export.manifest["left_out"] | dict(reasons)
    if not kept:
        lost = [reason for name, reason in left_out.items() if name != "demo"]
        raise DataError(f"{lost[-1]} No format is left, so nothing was written.")
    wrong = {
        file
        for name in formats.keys() & reasons.keys()
        for file in formats[name]["files"]
    }
    files = {name: file for name, file in export.files.items() if name not in wrong}
    manifest = {**export.manifest, "formats": kept, "left_out": left_out}
    files["manifest.json"] = record_bytes(manifest)
    return export._replace(files=files, manifest=manifest)


def add_demo(
    export: Export, trained: TrainedModel, test: Examples, expected: np.ndarray
) -> Export:
    """The export with the demo page or, in the manifest, why there is none.

    Args:
        export: all other files.
        trained: the network.
        test: the whole test split.
        expected: the network's probabilities on it, `[examples, classes]`.
    """
    if export.graph is None:
        return export
    constants = export.graph.constants
    page = demo_page(trained, export.manifest, constants, test, expected)
    if page.content is None:
        return leave_out(export, {"demo": page.note})
    manifest = export.manifest | {"demo": {"file": "demo.html", "note": page.note}}
    files = {"demo.html": page.content, "manifest.json": record_bytes(manifest)}
    return export._replace(files=export.files | files, manifest=manifest)


def add_unlike(export: Export, train: Images, validation: Images) -> Export:
    """The export with the centres by which `predict` knows unlike pictures."""
    centres = typical_pictures(train)
    content = bytes(pack_arrays({"centres": centres}))
    entry = {
        "sha256": digest(content),
        "threshold": round(unlike_threshold(centres, validation), 6),
        "quantile": QUANTILE,
    }
    manifest = export.manifest | {"unlike": entry}
    files = {UNLIKE_FILE: content, "manifest.json": record_bytes(manifest)}
    return export._replace(files=export.files | files, manifest=manifest)
