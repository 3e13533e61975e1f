"""An interrupted and resumed run gives the same bits as an uninterrupted one."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load

from src.config.params import Params
from src.data.prepared import load_manifest
from src.errors import BusyError, DataError, FourbeatError
from src.models.architecture import Architecture
from src.models.checkpoint import weights_of
from src.resume.fingerprint import Fingerprint, fingerprint, settings
from src.resume.lock import lock_path
from src.resume.resume import Resume
from src.resume.snapshots import TrainingProgress, read_snapshot
from src.training.early_stopping import build_early_stopping, build_plateau
from src.training.events import (
    EpochEnd,
    EpochResult,
    LoopPosition,
    SavePoint,
    TrainMetrics,
    ValidationMetrics,
)
from src.training.loop import fit
from src.training.state import build_state
from tests.helpers.chaos import campaign, outputs
from tests.helpers.imports import ROOT
from tests.helpers.running import OPTIMIZED, exit_code
from tests.helpers.training import TINY, data, small_params

NAME = Fingerprint(run="ab" * 32, machine="cd" * 32)
# Five seconds of training, with every feature that keeps state between epochs.
LONG = {
    "model": "mlp",
    "hidden": 64,
    "batch_size": 8,
    "epochs": 600,
    "log_every": 7,
    "schedule": "plateau",
    "lr_patience": 40,
    "lr_end": 1e-4,
    "ema_decay": 0.9,
    "on_nan": "skip",
    "augment": "[shift]",
}


# The train stage with a save after every epoch.
# The import takes seconds, so it waits until the stage handles signals.
SAVES_OFTEN = """
import runpy
from src.runtime import stage

run_stage = stage.run_stage

def run_with_main(name, main, arguments):
    def save_often(params, context):
        import src.resume.resume as resume
        resume.EPOCH_PAUSE, resume.COST_FACTOR = -1.0, 0
        return main(params, context)
    run_stage(name, save_often, arguments)

stage.run_stage = run_with_main
runpy.run_module("stages.train", run_name="__main__")
"""


@pytest.mark.slow
def test_run_killed_and_stopped_six_times_ends_with_the_same_bits(
    prepared, write_params, monkeypatch
):
    monkeypatch.setenv("XLA_FLAGS", OPTIMIZED)
    write_params(**{**LONG, "epochs": 200})
    signals = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
    report = campaign(prepared, 6, 6, signals, ("-c", SAVES_OFTEN))
    assert (report.kills, report.different) == (6, 0)
    assert report.codes <= {-signal.SIGKILL, 143, 130}
    assert report.resumes, "no start resumed from a snapshot"
    assert not [path for path in (prepared / ".resume").iterdir() if path.is_dir()]


@pytest.mark.slow
def test_signal_within_an_epoch_saves_within_it(prepared, write_params, monkeypatch):
    write_params(**{**LONG, "epochs": 2, "batch_size": 1, "limit_examples": 100})
    assert exit_code("train", monkeypatch) == 0
    expected = outputs(prepared)
    source = (
        "import os, signal, src.training.pacing as pace\n"
        "import runpy\n"
        "original = pace.ChunkSizer.chunk_end\n"
        "def stop(self, start, end):\n"
        "    self.steps = 3\n"
        "    if start == 31: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return original(self, start, end)\n"
        "pace.ChunkSizer.chunk_end = stop\n"
        "runpy.run_module('stages.train', run_name='__main__')\n"
    )
    stopped = subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert stopped.returncode == 143, stopped.stderr
    (folder,) = (path for path in (prepared / ".resume").iterdir() if path.is_dir())
    content = read_snapshot(folder / "state-1.snapshot")
    record = json.loads(load(content)["record"].tobytes())
    # Within a row of steps.csv: it covers the steps 28 to 35.
    assert (record["position"]["epoch"], record["position"]["step_in_epoch"]) == (1, 34)
    assert exit_code("train", monkeypatch) == 0
    assert outputs(prepared) == expected


@pytest.fixture(scope="module")
def tiny_state():
    """The initial state of a small run with the default parameters of the tests."""
    _, state = build_state(small_params(), TINY, steps_per_epoch=4)
    return state


@pytest.fixture
def point(params, tiny_state):
    state = tiny_state
    position = LoopPosition(3, 2, (1.0, 0.0, 5.0, 16.0), 1, build_plateau(params))
    return SavePoint(state, position, ends_epoch=True)


def progress_of(params: Params) -> TrainingProgress:
    scores = ValidationMetrics(
        0.3, 0.9, 0.85, precision=0.7, recall=0.6, f1=0.65, top_k=0.95
    )
    best = EpochResult(2, 8, TrainMetrics(0.4, 0.8), scores, 0.001, 1, predicted=(4, 6))
    progress = TrainingProgress(build_early_stopping(params), best=best)
    progress.history.steps.append([1, 1, 0.1, 0.2, "0.001", "", 0, "1"])
    progress.monitor.best.update(2, 0.1 + 0.2)
    return progress


WEIGHTS = {"dense.kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}


def saved_twice(params, point, tmp_path, monkeypatch):
    monkeypatch.setenv("FOURBEAT_RESUME_DIR", str(tmp_path / "elsewhere"))
    resume = Resume(NAME, save_minutes=1)
    resume.folder.mkdir(parents=True)
    for epoch in (2, 3):
        position = LoopPosition(epoch, 2, None, 1, build_plateau(params))
        now = TrainingProgress(build_early_stopping(params), position=position)
        resume.save(point.state, now, WEIGHTS)
    return resume


def test_snapshot_is_read_back_to_the_bit(params, point, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    progress = progress_of(params)
    progress.position = point.position
    with contextlib.suppress(KeyboardInterrupt), Resume(NAME, 1) as resume:
        resume.save(point.state, progress, WEIGHTS)
        raise KeyboardInterrupt
    with Resume(NAME, 1) as resume:
        found = resume.load(point.state)
    assert found.progress == progress
    np.testing.assert_array_equal(
        found.weights["dense.kernel"], WEIGHTS["dense.kernel"]
    )
    jax.tree.map(np.testing.assert_array_equal, found.state, point.state)
    assert not resume.folder.exists()


def test_two_newest_snapshots_are_kept(params, point, tmp_path, monkeypatch):
    resume = saved_twice(params, point, tmp_path, monkeypatch)
    resume.save(point.state, progress_of(params), WEIGHTS)
    assert resume.snapshots.numbers() == [2, 3]


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_weights_that_are_not_finite_are_never_saved(
    params, point, tmp_path, monkeypatch, value
):
    resume = saved_twice(params, point, tmp_path, monkeypatch)
    state = jax.tree.map(jnp.copy, point.state)
    kernel = state["model"]["dense"]["kernel"]
    kernel.set_value(kernel[...].at[0, 0].set(value))
    resume.save(state, progress_of(params), WEIGHTS)
    assert resume.snapshots.numbers() == [1, 2]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_damaged_snapshot_falls_back_to_the_one_before(
    params, point, tmp_path, monkeypatch, capsys, damage
):
    resume = saved_twice(params, point, tmp_path, monkeypatch)
    content = bytearray(resume.snapshots.path(2).read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    resume.snapshots.path(2).write_bytes(
        {
            "flip": bytes(content),
            "cut": bytes(content[:-7]),
            "empty": b"",
            "other": b"<html>not here</html>\n",
        }[damage]
    )
    assert resume.load(point.state).progress.position.epoch == 2
    assert "state-2.snapshot: expected" in capsys.readouterr().out
    assert resume.snapshots.numbers() == [1]


def test_only_damaged_snapshots_is_an_error_not_a_silent_restart(
    params, point, tmp_path, monkeypatch
):
    resume = saved_twice(params, point, tmp_path, monkeypatch)
    for number in (1, 2):
        resume.snapshots.path(number).write_bytes(b"")
    with pytest.raises(DataError, match="found 2 damaged"):
        resume.load(point.state)


@pytest.mark.parametrize(
    "name", ["state-old.snapshot", "state-01.snapshot", "notes.txt"]
)
def test_foreign_file_in_the_folder_is_left_alone(
    params, point, tmp_path, monkeypatch, name
):
    resume = saved_twice(params, point, tmp_path, monkeypatch)
    (resume.folder / name).write_bytes(b"not ours")
    (resume.folder / "state-9.snapshot").mkdir()
    assert resume.load(point.state).progress.position.epoch == 3
    assert (resume.folder / name).read_bytes() == b"not ours"


@pytest.mark.parametrize("name", ["folder", "lock", "state"])
def test_links_are_refused_and_not_followed(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("7")
    resume = Resume(NAME, 1)
    resume.folder.parent.mkdir()
    if name == "folder":
        resume.folder.symlink_to(outside)
    elif name == "lock":
        lock_path(resume.folder).symlink_to(outside / "precious")
    else:
        resume.folder.mkdir()
        resume.snapshots.path(1).symlink_to(outside / "precious")
    with pytest.raises(FourbeatError, match=r"link|damaged"), resume:
        resume.load(None)
    assert [path.read_text() for path in outside.iterdir()] == ["7"]


def test_snapshot_of_another_network_is_refused_by_its_first_array(
    params, point, tmp_path, monkeypatch, capsys
):
    resume = saved_twice(params, point, tmp_path, monkeypatch)
    wider = Architecture("mlp", 6, 0.0, image_shape=(8, 8, 1), classes=3)
    _, other = build_state(params, wider, steps_per_epoch=4)
    with pytest.raises(DataError):
        resume.load(other)
    assert (
        "dense.bias: expected float32 [6], found float32 [5]" in capsys.readouterr().out
    )


def test_second_process_on_the_same_run_is_told_the_first_ones_number(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with (
        Resume(NAME, 1),
        pytest.raises(BusyError, match=rf"found process {os.getpid()}\. Wait"),
        Resume(NAME, 1),
    ):
        pass


def test_runs_with_different_parameters_may_share_a_folder(
    prepared, params, point, tmp_path, monkeypatch
):
    """As queued experiments do: each loads, saves and removes only its own."""
    monkeypatch.setenv("FOURBEAT_RESUME_DIR", str(tmp_path / "shared"))
    manifest = load_manifest()
    changes: list[dict[str, object]] = [{}, {"lr": 0.01}, {"seed": 1}, {"epochs": 4}]
    names = [
        fingerprint(params.model_copy(update=change), manifest) for change in changes
    ]
    with contextlib.ExitStack() as stack:
        for name in names[1:]:
            stack.enter_context(Resume(name, 1)).save(
                point.state, progress_of(params), WEIGHTS
            )
        with Resume(names[0], 1) as first:
            assert first.load(point.state) is None
        assert not first.folder.exists()
        states = list((tmp_path / "shared").glob("*/state-1.snapshot"))
        assert len(states) == len(names) - 1


def test_same_run_twice_in_a_shared_folder_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("FOURBEAT_RESUME_DIR", str(tmp_path))
    repair = (
        r"Wait for it and run again, or stop it\. Queued experiments with "
        r"the same parameters must not share FOURBEAT_RESUME_DIR\."
    )
    with (
        Resume(NAME, 1),
        pytest.raises(BusyError, match=repair),
        Resume(NAME, 1),
    ):
        pass


ELSEWHERE = NAME._replace(machine="ef" * 32)


@pytest.fixture
def save_epoch(params, point, tmp_path, monkeypatch):
    """Returns a function that leaves a snapshot, as a killed run does."""
    monkeypatch.chdir(tmp_path)

    def save(name, epoch):
        position = LoopPosition(epoch, 0, None, 0, build_plateau(params))
        now = TrainingProgress(build_early_stopping(params), position=position)
        with contextlib.suppress(KeyboardInterrupt), Resume(name, 1) as resume:
            resume.save(point.state, now, WEIGHTS)
            raise KeyboardInterrupt
        return resume.folder

    return save


def test_without_an_own_snapshot_that_of_another_machine_is_loaded_and_announced(
    point, save_epoch, capsys
):
    folder = save_epoch(ELSEWHERE, 4)
    with Resume(NAME, 1) as resume:
        found = resume.load(point.state)
        assert folder.exists(), "removed before the run has succeeded"
    assert found.progress.position.epoch == 4
    jax.tree.map(np.testing.assert_array_equal, found.state, point.state)
    assert capsys.readouterr().out == (
        f"train: resuming in epoch 4, from {folder}: begun on another machine, or "
        "with other devices, processes or threads, so results match up to rounding. To "
        "train from scratch, remove it\n"
    )
    assert not folder.exists(), "the next run would resume from it"


def test_run_begun_on_another_machine_announces_it_at_each_start(
    params, point, save_epoch, capsys
):
    save_epoch(ELSEWHERE, 4)
    with contextlib.suppress(KeyboardInterrupt), Resume(NAME, 1) as resume:
        progress = resume.load(point.state).progress
        resume.save(point.state, progress, WEIGHTS)
        raise KeyboardInterrupt
    capsys.readouterr()
    with Resume(NAME, 1) as resume:
        assert resume.load(point.state).progress.from_other_machine
    assert f"from {resume.folder}: begun on another machine" in capsys.readouterr().out


def test_run_killed_while_it_cleans_up_resumes_from_its_own_snapshot(
    point, save_epoch, monkeypatch
):
    save_epoch(NAME, 2)
    save_epoch(ELSEWHERE, 4)

    def killed(folder, ignore_errors):
        folder.rename(folder.with_suffix(".removed"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt), Resume(NAME, 1):
            pass
    with Resume(NAME, 1) as resume:
        assert resume.load(point.state).progress.position.epoch == 2


def test_renamed_copy_of_a_folder_is_neither_loaded_nor_removed(point, save_epoch):
    folder = save_epoch(ELSEWHERE, 4)
    folder.rename(folder.with_name(f"{folder.name}-backup"))
    with Resume(NAME, 1) as resume:
        assert resume.load(point.state) is None
    assert folder.with_name(f"{folder.name}-backup").exists()


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_folder_of_another_machine_that_cannot_be_locked_is_left_alone(
    point, save_epoch, tmp_path, kind
):
    folder = save_epoch(ELSEWHERE, 4)
    lock = folder.with_name(f"{folder.name}.lock")
    lock.unlink()
    if kind == "link":
        lock.symlink_to(tmp_path / "nowhere")
    else:
        lock.mkdir()
    with Resume(NAME, 1) as resume:
        assert resume.load(point.state) is None
    assert (folder / "state-1.snapshot").exists()


def test_damaged_snapshots_of_one_machine_fall_back_to_those_of_another(
    point, save_epoch
):
    whole = save_epoch(NAME._replace(machine="1" * 64), 3)
    damaged = save_epoch(ELSEWHERE, 4)
    (damaged / "state-1.snapshot").write_bytes(b"")
    os.utime(whole, (1, 1))
    os.utime(damaged, (2, 2))
    with Resume(NAME, 1) as resume:
        assert resume.load(point.state).progress.position.epoch == 3


def test_own_snapshot_takes_precedence_over_a_newer_one_of_another_machine(
    point, save_epoch
):
    save_epoch(NAME, 2)
    save_epoch(ELSEWHERE, 4)
    with Resume(NAME, 1) as resume:
        assert resume.load(point.state).progress.position.epoch == 2


def test_of_several_other_machines_the_newest_snapshot_is_loaded(point, save_epoch):
    for machine, epoch in [("1" * 64, 3), ("2" * 64, 5), ("3" * 64, 4)]:
        folder = save_epoch(NAME._replace(machine=machine), epoch)
        os.utime(folder, (epoch, epoch))
    with Resume(NAME, 1) as resume:
        assert resume.load(point.state).progress.position.epoch == 5


def test_snapshot_that_another_process_has_locked_is_left_alone(point, save_epoch):
    folder = save_epoch(ELSEWHERE, 4)
    with Resume(ELSEWHERE, 1) as other:
        with Resume(NAME, 1) as resume:
            assert resume.load(point.state) is None
        assert folder.exists()
        assert other.load(point.state).progress.position.epoch == 4


def test_snapshot_of_another_run_is_never_loaded(point, save_epoch):
    folder = save_epoch(Fingerprint(run="ba" * 32, machine=NAME.machine), 4)
    with Resume(NAME, 1) as resume:
        assert resume.load(point.state) is None
    assert folder.exists()


def test_damaged_snapshots_of_another_machine_are_an_error(point, save_epoch):
    folder = save_epoch(ELSEWHERE, 4)
    (folder / "state-1.snapshot").write_bytes(b"")
    with (
        pytest.raises(DataError, match=f"{folder}: .* 1 damaged"),
        Resume(NAME, 1) as r,
    ):
        r.load(point.state)


def test_link_to_the_folder_of_another_machine_is_not_followed(
    point, save_epoch, tmp_path
):
    folder = save_epoch(ELSEWHERE, 4)
    folder.rename(tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside")
    with Resume(NAME, 1) as resume:
        assert resume.load(point.state) is None
    assert (tmp_path / "outside/state-1.snapshot").exists()


def test_fingerprint_changes_with_everything_that_affects_the_bits(
    prepared, params, monkeypatch
):
    manifest = load_manifest()
    before = fingerprint(params, manifest)
    assert fingerprint(params, manifest) == before
    others = [
        fingerprint(params.model_copy(update={"lr": 0.0031}), manifest),
        fingerprint(
            params,
            manifest.model_copy(update={"sha256": {"train": "", "validation": ""}}),
        ),
    ]
    monkeypatch.setattr("src.resume.fingerprint.version", lambda name: "0")
    others.append(fingerprint(params, manifest))
    monkeypatch.undo()
    monkeypatch.setattr("src.resume.fingerprint.PACKAGE", ROOT / "tests")
    others.append(fingerprint(params, manifest))
    monkeypatch.undo()
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    others.append(fingerprint(params, manifest))
    assert len({before.run, *(other.run for other in others)}) == 6
    assert {other.machine for other in others} == {before.machine}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("processor", ["another"]),
        ("threads", 77),
        ("jax.device_count", 8),
        ("jax.process_count", 2),
    ],
)
def test_machine_changes_only_its_half_of_the_fingerprint(
    prepared, params, monkeypatch, name, found
):
    manifest = load_manifest()
    before = fingerprint(params, manifest)
    monkeypatch.setattr(f"src.resume.fingerprint.{name}", lambda: found)
    after = fingerprint(params, manifest)
    assert after.run == before.run
    assert after.machine != before.machine


@pytest.mark.parametrize(
    "variables",
    [
        {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        {"XLA_FLAGS": ""},
        {"JAX_COORDINATOR_ADDRESS": "here:1", "JAX_PROCESS_ID": "1"},
        {"JAX_NUM_CPU_DEVICES": "2", "NVIDIA_VISIBLE_DEVICES": "1"},
        {"HOME": "/elsewhere"},
    ],
)
def test_variables_that_do_not_affect_results_are_not_settings(variables):
    assert settings(variables) == []


def test_settings_are_the_variables_that_jax_and_xla_read_sorted():
    flags = " --xla_a=1  --xla_force_host_platform_device_count=12 --xla_b=2"
    assert settings({"XLA_FLAGS": flags, "JAX_ENABLE_X64": "1"}) == [
        ("JAX_ENABLE_X64", "1"),
        ("XLA_FLAGS", "--xla_a=1 --xla_b=2"),
    ]


def test_fingerprint_does_not_depend_on_how_often_training_saves(prepared, params):
    manifest = load_manifest()
    changed = params.model_copy(update={"save_minutes": 0.5, "export_formats": ()})
    assert fingerprint(changed, manifest) == fingerprint(params, manifest)


@pytest.mark.parametrize(("shift", "equal"), [(0, True), (1, False)])
def test_only_the_right_position_gives_the_right_bits(params, shift, equal):
    """The negative control: one step off gives other bits."""
    graphdef, state = build_state(params, TINY, steps_per_epoch=6)
    points, weights = [], []
    for event in fit(state, graphdef, data(), params):
        if isinstance(event, SavePoint):
            points.append(replace(event, state=jax.tree.map(jnp.copy, event.state)))
        elif isinstance(event, EpochEnd):
            weights.append(weights_of(event.model))
    begin = points[1]
    step = begin.position.step_in_epoch + shift
    position = replace(begin.position, step_in_epoch=step)
    again = [
        weights_of(event.model)
        for event in fit(begin.state, graphdef, data(), params, position)
        if isinstance(event, EpochEnd)
    ]
    same = [
        np.array_equal(array, again[-1][name]) for name, array in weights[-1].items()
    ]
    assert all(same) == equal
