"""A temporary clone of the repository, in which tests run git and DVC."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.project import with_values
from tests.helpers.imports import ROOT


class Clone:
    """A new repository with the files of this one that git does not ignore."""

    def __init__(self, folder: Path):
        self.folder = folder
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(
            listed, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        self.set(epochs=2, model="mlp", export_formats="[stablehlo]")
        self.run("git", "init", "--quiet", "--initial-branch=main")
        self.commit("Start")

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GIT_AUTHOR_NAME": "Test",
            "GIT_AUTHOR_EMAIL": "test@example.com",
            "GIT_COMMITTER_NAME": "Test",
            "GIT_COMMITTER_EMAIL": "test@example.com",
        }

    def run(self, *command: str, code: int = 0) -> str:
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout + result.stderr

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Like `run`, but in the background and in a new session."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.environment(), "PYTHONUNBUFFERED": "1", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def set(self, **values: object) -> None:
        path = self.folder / "params.yaml"
        path.write_text(with_values(path.read_text(), **values))

    def bytes(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def metrics(self, name: str) -> dict:
        return json.loads(self.bytes(f"metrics/{name}.json"))
