"""The targets of the Makefile that a user runs, in a clone of the project."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.imports import ROOT

CACHE_IS_EMPTY = (
    "restore: expected the committed results in DVC's cache, found some missing. "
    "Run: make repro"
)


@pytest.fixture
def clone(tmp_path) -> Path:
    """A clone with this Makefile, an empty DVC cache and an environment to name."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    shutil.copy(ROOT / "Makefile", folder)
    environment = tmp_path / "environment"
    environment.mkdir()
    (environment / "bin").symlink_to(Path(sys.prefix) / "bin")
    shutil.copy(folder / "requirements.lock", environment)  # so it is up to date
    return folder


def make_restore(clone: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "restore", f"VENV={clone.parent / 'environment'}"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
    )


def test_restore_with_an_empty_cache_says_what_to_run(clone):
    committed = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text("edited")
    result = make_restore(clone)
    assert result.returncode
    assert CACHE_IS_EMPTY in result.stderr.splitlines()
    assert "Is your cache" not in result.stderr
    assert (clone / "params.yaml").read_text() == committed


def test_restore_shows_any_other_error_of_dvc(clone):
    (clone / "dvc.yaml").write_text("stages: 3\n")
    result = make_restore(clone)
    assert result.returncode
    assert "dvc.yaml" in result.stderr
    assert "restore:" not in result.stderr
