"""Fixtures: small data, a prepared folder, and parameters."""

import os
import subprocess
from pathlib import Path

import jax
import pytest

from src.config.params import Params
from src.runtime import processes
from tests.helpers.prepared import write_params_file, write_prepared
from tests.helpers.running import run_python
from tests.helpers.training import small_params

os.environ.pop("FOURBEAT_RESUME_DIR", None)  # no save of the caller's may help
os.environ.pop("FOURBEAT_TENSORBOARD", None)
# A shape that does not fit is an error, not a silent broadcast.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def params() -> Params:
    """The default parameters, changed to a short run of a small network."""
    return small_params()


@pytest.fixture
def prepared(tmp_path, monkeypatch) -> Path:
    """A folder with data/prepared; it becomes the working directory."""
    write_prepared(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write_params(tmp_path):
    """Writes params.yaml into `tmp_path`: the default one with these keys changed.

    The one export format that needs no other library: the others have their own tests.
    """

    def write(**changes: object) -> Path:
        values = {"export_formats": "[stablehlo]", **changes}
        return write_params_file(tmp_path, **values)

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
