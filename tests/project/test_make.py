"""The targets of the Makefile that a user runs, in a clone of the project."""

import re
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


def make(
    clone: Path, target: str, *variables: str, environment: str = "environment"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", target, f"VENV={clone.parent / environment}", *variables],
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
    )


def test_restore_with_an_empty_cache_says_what_to_run(clone):
    committed = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text("edited")
    result = make(clone, "restore")
    assert result.returncode
    assert CACHE_IS_EMPTY in result.stderr.splitlines()
    assert "Is your cache" not in result.stderr
    assert (clone / "params.yaml").read_text() == committed


def test_restore_shows_any_other_error_of_dvc(clone):
    (clone / "dvc.yaml").write_text("stages: 3\n")
    result = make(clone, "restore")
    assert result.returncode
    assert "dvc.yaml" in result.stderr
    assert "restore:" not in result.stderr


# `make setup` looks at the folder, then at Python: with this one it installs nothing.
NO_PYTHON = "PYTHON=false"


@pytest.fixture
def precious(tmp_path) -> Path:
    """A file of the user in a folder that is no environment."""
    file = tmp_path / "precious/thesis.txt"
    file.parent.mkdir()
    file.write_text("years of work")
    return file


def check_refused(result: subprocess.CompletedProcess[str], found: str) -> None:
    assert result.returncode
    lines = [line for line in result.stderr.splitlines() if line.startswith("setup:")]
    assert len(lines) == 1
    assert found in lines[0]
    assert "make setup VENV=/path/to/environment" in lines[0]


def test_setup_refuses_a_folder_with_other_files(clone, precious):
    result = make(clone, "setup", NO_PYTHON, environment="precious")
    check_refused(result, f"{precious.parent}: expected an environment or nothing")
    assert precious.read_text() == "years of work"


def test_setup_refuses_a_link_even_to_an_environment(clone, precious):
    (precious.parent / "pyvenv.cfg").touch()
    (clone.parent / "link").symlink_to(precious.parent)
    result = make(clone, "setup", NO_PYTHON, environment="link")
    check_refused(result, "found a symbolic link")
    assert precious.read_text() == "years of work"


@pytest.mark.parametrize("files", [None, [], ["pyvenv.cfg", "old.txt"]])
def test_setup_accepts_a_new_folder_an_empty_one_and_an_environment(clone, files):
    if files is not None:
        (clone.parent / "fresh").mkdir()
    for name in files or []:
        (clone.parent / "fresh" / name).touch()
    result = make(clone, "setup", NO_PYTHON, environment="fresh")
    assert "setup: expected Python 3.11 or newer" in result.stderr


def test_experiments_are_in_a_wide_table_even_in_a_pipe(clone):
    params, scores = clone / "params.yaml", clone / "metrics/test.json"
    text = params.read_text()
    for key in ("seed", "dropout", "ema_decay", "lr", "batch_size", "epochs"):
        text = re.sub(rf"^{key}: .*", f"{key}: 7", text, flags=re.MULTILINE)
    params.write_text(text)
    scores.write_text(scores.read_text().replace('"accuracy": 0.', '"accuracy": 0.5'))
    result = make(clone, "experiments")
    assert result.returncode == 0, result.stderr
    header = next(line for line in result.stdout.splitlines() if "Experiment" in line)
    assert 80 < len(header) <= 120
    assert {"test.accuracy", "lr", "epochs"} <= set(header.split())
