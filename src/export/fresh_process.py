"""Runs exported files in fresh processes, side by side.

A process runs the `run.py` that ships with a file, in a folder of that file alone. It
imports nothing of this project and, except for StableHLO, no JAX: only the runtime that
a user would install. When it has written the probabilities, it waits: latency is
measured when nothing else runs.
"""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import numpy as np

from src import paths
from src.errors import DataError, FourbeatError, StorageError
from src.export.end_process import end_process
from src.runtime.cores import bound_to
from src.storage.atomic import storage_errors
from src.storage.npz import read_arrays

REPAIR = "Run it again: dvc repro export"
# Runs a program without JAX. TensorFlow would import it, and other runtimes need none.
WITHOUT_JAX = (
    "import runpy, sys; sys.modules['jax'] = None; del sys.argv[0]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


class Run(NamedTuple):
    """A file that a process runs."""

    process: subprocess.Popen[str]
    file: Path
    answers: Path
    errors: Path  # what the process prints on stderr


class FreshProcesses:
    """The processes, by name of the format. They end with the block."""

    def __init__(self, cores: Collection[int]) -> None:
        """Starts none yet.

        Args:
            cores: that they use. FOURBEAT_JOBS must not change the results of runtimes.
        """
        self.cores = cores
        self.temporary = TemporaryDirectory(prefix="fourbeat-")
        self.folder = Path(self.temporary.name)
        self.runs: dict[str, Run] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for run in self.runs.values():
            end_process(run.process)
        self.temporary.cleanup()

    def start(
        self, name: str, file: str, files: Mapping[str, bytes], images: Path
    ) -> None:
        """Starts to run a file on images.

        Args:
            name: of the format.
            file: its file or folder among `files`.
            files: by path; `run.py` and manifest.json are among them.
            images: a .npy or .npz file.
        """
        folder = self.folder / name
        unpack_files(files, folder)
        answers, errors = folder / "answers.npz", folder / "errors.txt"
        blocked = [] if file.endswith(".stablehlo") else ["-c", WITHOUT_JAX]
        command = [sys.executable, "-I", *blocked, folder / "run.py", folder / file]
        command += [images, "--output", answers, "--latency", "--wait"]
        with bound_to(self.cores), storage_errors(errors), errors.open("w") as stderr:
            process = subprocess.Popen(  # noqa: S603 - our own program, and no shell
                list(map(str, command)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                # Without Keras 3, TensorFlow's import takes a third less.
                env=os.environ | {"TF_USE_LEGACY_KERAS": "1"},
            )
        self.runs[name] = Run(process, folder / file, answers, errors)

    def answers(self, name: str) -> np.ndarray:
        """Waits for the file's probabilities, `[images, classes]`.

        Raises:
            DataError: the process failed.
            StorageError: the process could not write the probabilities.
        """
        run = self.runs[name]
        if run.process.stdout is None or not run.process.stdout.readline():
            run.process.wait()
            raise failure(run)
        return read_arrays(run.answers, REPAIR)["probabilities"]

    def latency(self, name: str) -> dict[str, Any]:
        """Lets the process measure its latency.

        Raises:
            DataError: the process failed.
        """
        run = self.runs[name]
        if run.process.stdin:
            run.process.stdin.close()
        line = run.process.stdout and run.process.stdout.readline()
        if not line:
            run.process.wait()
            raise failure(run)
        end_process(run.process)  # TensorFlow would take half a second to end
        measured: dict[str, Any] = json.loads(line)
        return measured


def failure(run: Run) -> FourbeatError:
    """The error of a process that has ended."""
    code = run.process.returncode
    lines = run.errors.read_text("utf-8", "replace").splitlines()
    last = (lines or [f"exit code {code}"])[-1]
    if code == StorageError.exit_code:
        return StorageError(f"{last}. Free some space for temporary files.")
    return DataError(
        f"{paths.EXPORT / run.file.name}: expected to run in a fresh process, "
        f"found: {last.rstrip('.')}."
    )


def unpack_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Writes the files to a folder."""
    for name, content in files.items():
        path = folder / name
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
