"""What a stage read must be the same when it writes."""

import os
import py_compile
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.config.load import load_params
from src.errors import DataError
from src.storage.atomic import write_bytes
from src.storage.lineage import outputs, record_inputs
from stages import remove_stale_bytecode

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
def stage(tmp_path, monkeypatch, write_params):
    """A stage that has begun: it reads a source, a folder of data and a parameter."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "step.py").write_text("beats = 4\n")
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / "data/deep/one.png").write_bytes(b"pixels")
    record_inputs("train", load_params(write_params(data_path="data", lr=0.002)))
    yield tmp_path
    record_inputs("none", load_params(write_params()))


def writes(folder):
    with outputs():
        write_bytes(folder / "result", b"done")


def edit_source(folder, write_params):
    (folder / "step.py").write_text("beats = 3\n")


def remove_source(folder, write_params):
    (folder / "step.py").unlink()


def edit_data(folder, write_params):
    (folder / "data/deep/one.png").write_bytes(b"others")


def add_data(folder, write_params):
    (folder / "data/two.png").write_bytes(b"")


def rename_data(folder, write_params):
    (folder / "data/deep/one.png").rename(folder / "data/deep/two.png")


def edit_parameter(folder, write_params):
    write_params(data_path="data", lr=0.003)


def spoil_parameters(folder, write_params):
    (folder / "params.yaml").write_text("lr: [")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edit_source, "step.py: expected the content that the stage began with"),
        (remove_source, "step.py: expected"),
        (edit_data, "data: expected"),
        (add_data, "data: expected"),
        (rename_data, "data: expected"),
        (
            edit_parameter,
            "params.yaml: lr: expected 0.002 as in the beginning, found 0",
        ),
        (spoil_parameters, "params.yaml: lr: expected 0.002"),
    ],
)
def test_what_is_edited_meanwhile_keeps_the_results_from_appearing(
    stage, write_params, edit, message
):
    edit(stage, write_params)
    with pytest.raises(DataError, match=message):
        writes(stage)
    assert not (stage / "result").exists()
    assert not list(stage.rglob("*.tmp"))


def test_large_file_that_is_touched_keeps_the_results_from_appearing(
    stage, write_params, monkeypatch
):
    """It is not hashed: a shard is compared by when and where it was changed."""
    monkeypatch.setattr("src.storage.lineage.LARGE", 3)
    params = load_params(stage / "params.yaml")
    record_inputs("train", params)
    writes(stage)
    (stage / "data/deep/one.png").write_bytes(b"others")
    with pytest.raises(DataError, match="data: expected"):
        writes(stage)


def test_what_the_stage_does_not_read_may_be_edited(stage, write_params):
    write_params(data_path="data", lr=0.002, epochs=7)
    (stage / "other.py").write_text("")
    (stage / "step.py").write_text("beats = 4\n")  # the same again, at another time
    writes(stage)
    assert (stage / "result").read_bytes() == b"done"


def test_compiled_sources_may_appear_in_a_folder_that_the_stage_reads(stage):
    (stage / "data/deep/__pycache__").mkdir()
    (stage / "data/deep/__pycache__/step.pyc").write_bytes(b"compiled")
    writes(stage)
    assert (stage / "result").exists()


def test_stage_that_dvc_does_not_know_has_nothing_to_compare(stage, write_params):
    record_inputs("other", load_params(stage / "params.yaml"))
    edit_source(stage, write_params)
    writes(stage)
    assert (stage / "result").exists()


def stale(root):
    """A module whose compiled form is of an earlier edit that Python cannot see."""
    source = root / "src/answer.py"
    source.parent.mkdir()
    source.write_text("answer = 41\n")
    before = source.stat()
    py_compile.compile(str(source), doraise=True)
    source.write_text("answer = 42\n")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(("removed", "answer"), [(True, "42"), (False, "41")])
def test_code_that_runs_is_the_code_that_is_there(tmp_path, removed, answer):
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
