"""What several test files share: small data, a prepared folder, a way to run stages."""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks.project import with_values
from src import paths
from src import stage as stage_runner
from src.config import Params, load_params
from src.data.prepared import save_prepared
from src.data.split import Examples, Source
from src.files import write_metrics
from tests.imports import ROOT

os.environ.pop("FOURBEAT_RESUME_DIR", None)  # no save of the caller's may help
# A shape that does not fit is an error, not a silent broadcast.
jax.config.update("jax_numpy_rank_promotion", "raise")


def patterned(count: int, seed: int, shape=(8, 8, 1), classes=3) -> Examples:
    """Images that a network can learn: a bright stripe whose place tells the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count, dtype=np.int32)
    images = rng.integers(0, 60, (count, *shape), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += np.uint8(150)
    return Examples(images, labels)


@pytest.fixture
def params() -> Params:
    """The default parameters, but for a short run of a small network."""
    changes = {"model": "mlp", "hidden": 16, "epochs": 3, "batch_size": 16}
    return load_params(ROOT / "params.yaml").model_copy(update=changes)


@pytest.fixture
def prepared(tmp_path, monkeypatch) -> Path:
    """A folder with data/prepared in it, which is then the working directory."""
    monkeypatch.chdir(tmp_path)
    names = ["low", "middle", "high"]
    splits = {
        "train": patterned(100, seed=1),
        "validation": patterned(30, seed=2),
        "test": patterned(37, seed=3),
    }
    source = Source("stripes", "1", names, splits["train"], None, None)
    manifest = save_prepared(source, splits)
    counts = {name: {"examples": len(split.labels)} for name, split in splits.items()}
    write_metrics(
        paths.METRICS / "prepare.json", {**counts, "in_both": manifest["in_both"]}
    )
    return tmp_path


@pytest.fixture
def write_params(tmp_path):
    """Writes params.yaml into `tmp_path`: the default one with these keys changed.

    The one export format that needs no other library: the others have their own tests.
    """

    def write(**changes: object) -> Path:
        path = tmp_path / "params.yaml"
        values = {"export_formats": "[stablehlo]", **changes}
        path.write_text(with_values((ROOT / "params.yaml").read_text(), **values))
        return path

    return write


def run_stage(
    name: str, folder: Path, arguments: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a stage as DVC does, in `folder`, with the project's own sources."""
    return run_python(["-m", f"stages.{name}", *arguments], folder, **environment)


def run_python(
    arguments: Sequence[str], folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python in `folder` with the project's own sources."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# Prepare, and how much memory it needs beyond what its libraries do.
MEASURED = """
import atexit, re, runpy
from pathlib import Path
import src.data.prepared, src.data.source, src.data.arrays

{setting}

def peak():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1])

before = peak()
atexit.register(lambda: Path("growth").write_text(str(peak() - before)))
runpy.run_module("stages.prepare", run_name="__main__")
"""


def prepare_measured(
    folder: Path, setting: str = ""
) -> tuple[subprocess.CompletedProcess[str], int]:
    """The prepare stage after a line of Python; kB that it needed at the peak."""
    result = run_python(["-c", MEASURED.format(setting=setting)], folder)
    growth = folder / "growth"
    kilobytes = int(growth.read_text())
    growth.unlink()
    return result, kilobytes


@pytest.fixture
def run_source(tmp_path):
    """Runs a few lines of Python in `tmp_path`, with the project's own sources."""

    def run(source: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_python(["-c", source], tmp_path, **environment)

    return run


def exit_code(stage: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs a stage in this process, in the working directory."""
    main = import_module(f"stages.{stage}").main
    for name in ("listen", "wait_for_me", "ignore"):  # signals are pytest's here
        monkeypatch.setattr(f"src.interrupt.{name}", lambda: None)
    with pytest.raises(SystemExit) as ended:
        stage_runner.run_stage(stage, main)
    return ended.value.code
