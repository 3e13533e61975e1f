"""Fixtures: small data, a prepared folder, and parameters."""

import os
import subprocess
from functools import cache
from pathlib import Path

import jax
import pytest

from benchmarks.project import with_values
from src import paths
from src.config.params import Params
from src.data.examples import Source
from src.data.prepared import save_prepared
from src.runtime import processes
from src.training import state
from tests.helpers.examples import patterned
from tests.helpers.files import committed, write_metrics
from tests.helpers.imports import ROOT
from tests.helpers.running import run_python
from tests.helpers.training import small_params

os.environ.pop("FOURBEAT_RESUME_DIR", None)  # no save of the caller's may help
# A shape that does not fit is an error, not a silent broadcast.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def _share_compiled_functions():
    """Shares compiled code between runs with equal parameters.

    A new optimizer consists of new functions, which JAX tells from the old ones.
    """
    with pytest.MonkeyPatch.context() as patch:
        shared = cache(state.build_optimizer)
        patch.setattr("src.training.state.build_optimizer", shared)
        yield


@pytest.fixture
def params() -> Params:
    """The default parameters, changed to a short run of a small network."""
    return small_params()


@pytest.fixture
def prepared(tmp_path, monkeypatch) -> Path:
    """A folder with data/prepared; it becomes the working directory."""
    monkeypatch.chdir(tmp_path)
    names = ["low", "middle", "high"]
    splits = {
        "train": patterned(100, seed=1),
        "validation": patterned(30, seed=2),
        "test": patterned(37, seed=3),
    }
    source = Source("stripes", "1", names, splits["train"], None, None)
    manifest = committed(save_prepared, source, splits)
    counts = {name: {"examples": len(split.labels)} for name, split in splits.items()}
    write_metrics(paths.METRICS / "prepare.json", counts)
    details = {"in_both": manifest["in_both"]}
    write_metrics(paths.DETAILS / "prepare.json", details)
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


@pytest.fixture
def run_source(tmp_path):
    """Runs a few lines of Python in `tmp_path`, with the project's own sources."""

    def run(source: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_python(["-c", source], tmp_path, **environment)

    return run


@pytest.fixture
def become_process(monkeypatch):
    """Makes this process believe that it is one of several."""

    def become(number: int, count: int) -> None:
        monkeypatch.setattr(
            processes, "PROCESS_GROUP", processes.ProcessGroup(number, count)
        )

    return become
