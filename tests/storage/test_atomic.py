"""Atomic writes on full and failing disks, and after a power failure."""

import contextlib
import errno
import itertools
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from src.errors import FourbeatError, StorageError
from src.resume.fingerprint import Fingerprint
from src.resume.resume import Resume
from src.resume.snapshots import TrainingProgress
from src.storage.atomic import atomic_commit, replace_file
from src.training.early_stopping import build_early_stopping, build_plateau
from src.training.events import LoopPosition
from src.training.state import build_state
from tests.helpers.disk import Disk, crashes, lay
from tests.helpers.imports import ROOT
from tests.helpers.running import exit_code
from tests.helpers.stage_outputs import STAGE_OUTPUTS
from tests.helpers.training import TINY

NAME = Fingerprint(run="ab" * 32, machine="cd" * 32)
SAVES = 12


@pytest.fixture
def run(params):
    """A state to save, for any epoch."""
    _, state = build_state(params, TINY, steps_per_epoch=4)
    plateau, monitor = build_plateau(params), build_early_stopping(params)

    def progress(epoch):
        return TrainingProgress(
            monitor, position=LoopPosition(epoch, 0, None, 0, plateau)
        )

    return state, progress


def save_again_and_again(disk, run, monkeypatch):
    """Saves `SAVES` times; after how many entries of the log each was through."""
    state, progress = run
    monkeypatch.setenv("FOURBEAT_RESUME_DIR", str(disk.root / "resume"))
    through = []
    with contextlib.suppress(KeyboardInterrupt), Resume(NAME, 1) as resume:
        for number in range(1, SAVES + 1):
            weights = {"dense.kernel": np.full((40, 9), number, np.float32)}
            resume.save(state, progress(number), weights)
            through.append(len(disk.log))
        raise KeyboardInterrupt  # skips the removal of the folder
    return through


def outcome(tree, run, root, monkeypatch):
    """The number of the save that is found after the crash; 0: none; -1: refused."""
    state, _ = run
    lay(tree, root)
    monkeypatch.setenv("FOURBEAT_RESUME_DIR", str(root / "resume"))
    try:
        with Resume(NAME, 1) as resume:
            saved = resume.load(state)
    except FourbeatError:
        return -1
    finally:
        shutil.rmtree(root)
    if saved is None:
        return 0
    number = saved.progress.position.epoch
    assert (saved.weights["dense.kernel"] == number).all(), "a mixture"
    jax.tree.map(np.testing.assert_array_equal, saved.state, state)
    return number


def bad_outcomes(run, tmp_path, monkeypatch, syncs):
    """How many different states a crash may leave, and how many of them are bad."""
    with monkeypatch.context() as patch:
        (tmp_path / "disk").mkdir()
        disk = Disk(tmp_path / "disk", patch, syncs=syncs)
        through = save_again_and_again(disk, run, patch)
    tried, bad = set(), 0
    for moment, tree in crashes(disk.log):
        safe = sum(entries <= moment for entries in through)
        key = (safe, tuple(sorted(tree.items())))
        if key in tried:
            continue
        tried.add(key)
        found = outcome(tree, run, tmp_path / "after", monkeypatch)
        bad += found not in (safe, safe + 1)
        if not syncs and bad:
            break
    return len(tried), bad


@pytest.mark.slow
def test_checkpoint_survives_a_power_failure_at_any_moment(
    run, tmp_path, monkeypatch, capsys
):
    tried, bad = bad_outcomes(run, tmp_path, monkeypatch, syncs=True)
    assert tried >= 500
    assert bad == 0


def test_without_fsync_a_power_failure_corrupts_files(
    run, tmp_path, monkeypatch, capsys
):
    """The negative control of the test above."""
    _, bad = bad_outcomes(run, tmp_path, monkeypatch, syncs=False)
    assert bad


def two_files_and_one_to_go(root):
    with atomic_commit() as commit:
        commit.write(root / "deep/one", b"new one" * 9)
        commit.write(root / "two", b"new two" * 9)
        commit.remove(root / "three")


def test_files_written_together_are_each_whole_after_a_crash(tmp_path, monkeypatch):
    root = tmp_path / "disk"
    root.mkdir()
    with monkeypatch.context() as patch:
        disk = Disk(root, patch)
        replace_file(root / "deep/one", b"old one")
        replace_file(root / "two", b"old two")
        replace_file(root / "three", b"old three")
        before = len(disk.log)
        two_files_and_one_to_go(root)
    seen = set()
    for moment, tree in crashes(disk.log):
        if moment >= before:
            one, two = tree[Path("deep/one")], tree[Path("two")]
            assert one in (b"old one", b"new one" * 9)
            assert two in (b"old two", b"new two" * 9)
            seen.add((one, two, Path("three") in tree))
    assert len(seen) == 8, "some outcome was never tried"


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


CODES = [errno.ENOSPC, errno.EIO, errno.EACCES]


def test_failed_commit_writes_no_file(tmp_path, monkeypatch):
    """All but the renaming itself: a disk that fails there leaves some of both."""
    for number in itertools.count(1):
        root = tmp_path / str(number)
        (root / "deep").mkdir(parents=True)
        for name in ("deep/one", "two", "three"):
            (root / name).write_bytes(b"old")
        before = snapshot(root)
        with monkeypatch.context() as patch:
            disk = Disk(root, patch)
            disk.fails_at, disk.code = number, CODES[number % 3]
            try:
                two_files_and_one_to_go(root)
            except StorageError as error:
                message = str(error)
            else:
                break
        assert message.startswith(str(root))
        renamed = any(entry[0] == "move" for entry in disk.log)
        after = snapshot(root)
        assert not [path for path in after if path.name.endswith(".tmp")]
        assert renamed or after == before
    assert number > 8


def test_file_that_may_be_lost_is_replaced_without_a_sync(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        disk = Disk(tmp_path, patch)
        replace_file(tmp_path / "file", b"new", sync=False)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert [entry[0] for entry in disk.log] == ["create", "write", "move"]


def test_partial_write_is_completed(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        disk = Disk(tmp_path, patch)
        disk.fails_at, disk.code = 2, errno.EINTR  # half is written, no error
        replace_file(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"
    assert len([entry for entry in disk.log if entry[0] == "write"]) == 2


def test_nothing_is_written_through_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (tmp_path / "file").symlink_to(outside)
    (tmp_path / f".file.{os.getpid()}.tmp").symlink_to(outside)
    replace_file(tmp_path / "file", b"new")
    assert outside.read_text() == "precious"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "file").is_symlink()


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    left = tmp_path / ".file.999999999.tmp"
    other = tmp_path / ".other.999999999.tmp"
    left.write_bytes(b"half")
    other.write_bytes(b"not ours")
    replace_file(tmp_path / "file", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "file"]


BEFORE = {
    "evaluate": ["train"],
    "export": ["train", "evaluate"],
    "report": ["prepare", "train", "evaluate", "export"],
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGE_OUTPUTS)
def test_stage_on_a_failing_disk_ends_with_code_five_and_changes_nothing(
    stage, prepared, write_params, monkeypatch, capsys, tmp_path_factory
):
    """Fails at the first write, at the last, and at ten between."""
    write_params(
        data_path=ROOT / "data/raw", model="mlp", hidden=4, epochs=2, batch_size=50
    )
    # No result: elsewhere, and not among the writes that fail.
    monkeypatch.setattr("src.paths.LIVE", tmp_path_factory.mktemp("live") / "page")
    # Saves after every epoch.
    monkeypatch.setattr("src.resume.resume.EPOCH_PAUSE", -1.0)
    monkeypatch.setattr("src.resume.resume.COST_FACTOR", 0)
    monkeypatch.setattr("src.data.prepared.SHARD_BYTES", 500 * 64)  # of the digits'
    shutil.copy(ROOT / "requirements.lock", prepared)
    for before in BEFORE.get(stage, ()):
        assert exit_code(before, monkeypatch) == 0
    outputs = [prepared / name for name in STAGE_OUTPUTS[stage]]

    def run(fails_at):
        for path in outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"old")
        shutil.rmtree(prepared / ".resume", ignore_errors=True)
        capsys.readouterr()
        with monkeypatch.context() as patch:
            disk = Disk(prepared, patch)
            disk.fails_at, disk.code = fails_at, CODES[fails_at % 3]
            code = exit_code(stage, monkeypatch)
        assert not list(prepared.rglob("*.tmp"))
        return code, disk

    code, disk = run(fails_at=0)  # never
    assert code == 0
    assert all(path.read_bytes() != b"old" for path in outputs)
    assert disk.calls >= 3 * len(outputs)
    for number in sorted({round(n) for n in np.linspace(1, disk.calls, 12)}):
        code, disk = run(number)
        error = capsys.readouterr().err
        assert (code, error.count("\n")) == (5, 1), error
        where = error.removeprefix(f"{stage}: ").partition(":")[0]
        assert where.startswith(("data", "metrics", "models", ".resume", ".")), error
        assert os.strerror(disk.code) in error
        placed = {prepared / entry[2] for entry in disk.log if entry[0] == "move"}
        for path in outputs:
            assert (path.read_bytes() == b"old") == (path not in placed)


def test_folder_in_the_way_is_found_before_anything_takes_its_place(
    prepared, write_params, monkeypatch, capsys
):
    write_params(data_path=ROOT / "data/raw")
    (prepared / "metrics/prepare.json").unlink()
    (prepared / "metrics/prepare.json").mkdir()
    before = snapshot(prepared)
    assert exit_code("prepare", monkeypatch) == 5
    assert (
        "metrics/prepare.json: Is a directory. A file must" in capsys.readouterr().err
    )
    assert snapshot(prepared) == before
