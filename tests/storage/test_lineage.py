"""A stage writes nothing if an input changed while it ran."""

import os
import py_compile
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.config.load import load_params
from src.errors import DataError
from src.runtime.stage import StageContext
from src.storage.lineage import IGNORED, record_inputs
from stages import remove_stale_bytecode
from tests.helpers.imports import ROOT

PIPELINE = """
stages:
  train:
    deps:
      - step.py
      - ${data_path}
    params:
      - lr
"""


@pytest.fixture
def start(tmp_path, monkeypatch, write_params):
    """Starts a stage that reads a source, a folder of data and a parameter."""
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(PIPELINE)
    Path("step.py").write_text("beats = 4\n")
    Path("data/deep").mkdir(parents=True)
    Path("data/deep/one.png").write_bytes(b"pixels")
    params = load_params(write_params(data_path="data", lr=0.002))
    return lambda name="train": StageContext(record_inputs(name, params))


def write_result(context):
    with context.outputs() as outputs:
        outputs.write(Path("result"), b"done")


def edit_source(write_params):
    Path("step.py").write_text("beats = 3\n")


def remove_source(write_params):
    Path("step.py").unlink()


def edit_data(write_params):
    Path("data/deep/one.png").write_bytes(b"others")


def add_data(write_params):
    Path("data/two.png").write_bytes(b"")


def rename_data(write_params):
    Path("data/deep/one.png").rename("data/deep/two.png")


def edit_parameter(write_params):
    write_params(data_path="data", lr=0.003)


def spoil_parameters(write_params):
    Path("params.yaml").write_text("lr: [")


SHA256 = r"SHA-256 [0-9a-f]{12}\.\.\. as at the start, found"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edit_source, rf"^step\.py: expected {SHA256} [0-9a-f]{{12}}\.\.\.: it was"),
        (remove_source, rf"^step\.py: expected {SHA256} no such file: it was edited"),
        (edit_data, f"^data: expected {SHA256} [0-9a-f]"),
        (add_data, f"^data: expected {SHA256} [0-9a-f]"),
        (rename_data, f"^data: expected {SHA256} [0-9a-f]"),
        (
            edit_parameter,
            r"^params\.yaml: lr: expected 0\.002 as at the start, found 0\.003: it was",
        ),
        (
            spoil_parameters,
            r"^params\.yaml: lr: expected 0\.002 .*, found None: it was",
        ),
    ],
)
def test_stage_writes_nothing_if_an_input_was_edited_while_it_ran(
    start, write_params, edit, message, tmp_path
):
    context = start()
    edit(write_params)
    with pytest.raises(DataError, match=message):
        write_result(context)
    assert not Path("result").exists()
    assert not list(tmp_path.rglob("*.tmp"))


def test_stage_writes_nothing_if_a_large_file_was_touched(start, monkeypatch):
    """A large file is not hashed: its size, times and inode are compared."""
    monkeypatch.setattr("src.storage.lineage.LARGE_BYTES", 3)
    context = start()
    write_result(context)
    Path("data/deep/one.png").write_bytes(b"others")
    with pytest.raises(DataError, match="data: expected"):
        write_result(context)


def test_edits_of_unrelated_files_are_allowed(start, write_params):
    context = start()
    write_params(data_path="data", lr=0.002, epochs=7)
    Path("other.py").write_text("")
    Path("step.py").write_text("beats = 4\n")  # the same content, a new time
    write_result(context)
    assert Path("result").read_bytes() == b"done"


@pytest.mark.parametrize("name", ["__pycache__/step.pyc", ".one.png.swp", ".DS_Store"])
def test_ignored_files_may_appear_in_an_input_folder(start, name):
    context = start()
    path = Path("data/deep", name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"compiled")
    write_result(context)
    assert Path("result").exists()


def test_dvc_and_the_check_of_inputs_ignore_the_same_files():
    lines = (ROOT / ".dvcignore").read_text().splitlines()
    # A path from the root is an output that DVC must not compare, not an input.
    assert [line for line in lines if line[0] not in "#/"] == list(IGNORED)


def test_command_outside_the_pipeline_has_no_inputs(start, write_params):
    context = start("other")
    edit_source(write_params)
    write_result(context)
    assert Path("result").exists()


def stale(root):
    """A module with stale bytecode that Python cannot detect."""
    source = root / "src/answer.py"
    source.parent.mkdir()
    source.write_text("answer = 41\n")
    before = source.stat()
    py_compile.compile(str(source), doraise=True)
    source.write_text("answer = 42\n")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(("removed", "answer"), [(True, "42"), (False, "41")])
def test_stale_bytecode_is_not_run(tmp_path, removed, answer):
    """Without the removal Python runs the old one: the negative control."""
    stale(tmp_path)
    if removed:
        remove_stale_bytecode(tmp_path)
    result = subprocess.run(
        [sys.executable, "-c", "from src.answer import answer; print(answer)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == answer


def test_bytecode_of_an_untouched_source_stays(tmp_path):
    source = tmp_path / "src/answer.py"
    source.parent.mkdir()
    source.write_text("answer = 42\n")
    compiled = Path(py_compile.compile(str(source), doraise=True))
    later = time.time_ns() + 10**9
    os.utime(compiled, ns=(later, later))
    remove_stale_bytecode(tmp_path)
    assert compiled.exists()
