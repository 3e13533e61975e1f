"""A folder as `prepare` leaves it: data/prepared, its metrics, params.yaml."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.project import with_values
from src import paths
from src.data.examples import Examples, Source, SplitName, select
from src.data.prepared import save_prepared
from tests.helpers.examples import patterned
from tests.helpers.files import committed, write_metrics
from tests.helpers.imports import ROOT


def write_prepared(
    folder: Path,
    names: Sequence[str] = ("low", "middle", "high"),
    shape: tuple[int, int, int] = (8, 8, 1),
) -> None:
    """Writes data/prepared: 100, 30 and 37 images of two or three classes."""
    classes = len(names)
    splits = {
        "train": patterned(100, 1, shape, classes),
        "validation": patterned(30, 2, shape, classes),
        "test": patterned(37, 3, shape, classes),
    }
    source = Source("stripes", "1", list(names), splits["train"], None, None)
    save(folder, source, splits)


def save(folder: Path, source: Source, splits: dict[SplitName, Examples]) -> None:
    """Writes data/prepared and the metrics of prepare."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        manifest = committed(save_prepared, source, splits)
        counts = {
            name: {"examples": len(split.labels)} for name, split in splits.items()
        }
        write_metrics(paths.METRICS / "prepare.json", counts)
        details = {"in_both": manifest["in_both"]}
        write_metrics(paths.DETAILS / "prepare.json", details)


def write_noisy(folder: Path, names: Sequence[str] = ("a", "b", "c")) -> None:
    """Writes data/prepared: every fifth label is wrong, so any network errs.

    The 45 validation images are the last ones of the 60 test images.
    """
    splits: dict[SplitName, Examples] = {}
    counts: dict[SplitName, int] = {"train": 100, "test": 60}
    for seed, name in enumerate(counts):
        images, labels = patterned(counts[name], seed, classes=len(names))
        labels[::5] = (labels[::5] + 1) % len(names)
        splits[name] = Examples(images, labels)
    splits["validation"] = select(splits["test"], np.arange(15, 60))
    source = Source("noisy", "1", list(names), splits["train"], None, None)
    save(folder, source, splits)


def write_params_file(folder: Path, **changes: object) -> Path:
    """Writes params.yaml: the default one with these keys changed."""
    path = folder / "params.yaml"
    path.write_text(with_values((ROOT / "params.yaml").read_text(), **changes))
    return path
