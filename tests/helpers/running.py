"""Runs a stage, in a new process or in this one."""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest

from src.runtime import stage as stage_runner
from src.runtime.determinism import PINNED
from tests.helpers.imports import ROOT

# XLA_FLAGS with which XLA optimizes, unlike those of `make test`. They are given as
# `train` gives them, because it may find JAX imported.
OPTIMIZED = " ".join(f"--{name}={value}" for name, value in PINNED.items())


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


# Runs prepare and measures its memory beyond that of its libraries.
MEASURED = """
import atexit, re, runpy
from pathlib import Path
import src.data.prepared, src.sources.load, src.sources.npz

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
    """Runs prepare after a line of Python; also returns its peak memory in kB."""
    result = run_python(["-c", MEASURED.format(setting=setting)], folder)
    growth = folder / "growth"
    kilobytes = int(growth.read_text())
    growth.unlink()
    return result, kilobytes


def exit_code(stage: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs a stage in this process, in the working directory."""
    main = import_module(f"stages.{stage}").main
    for name in ("install_handlers", "defer", "ignore"):  # signals are pytest's here
        monkeypatch.setattr(f"src.signals.{name}", lambda: None)
    with pytest.raises(SystemExit) as ended:
        stage_runner.run_stage(stage, main)
    return ended.value.code
