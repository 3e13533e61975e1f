"""A run that is watched: its page, its event files, and its unchanged results."""

import csv
import errno
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from src import paths
from src.config.load import load_params
from src.errors import DataError
from src.reporting.live import LiveView, Pace
from src.runtime.stage import StageContext
from src.signals import SignalState, Stopped
from src.training.history import History
from stages import train
from tests.helpers.browser import Tab
from tests.helpers.chaos import outputs
from tests.helpers.disk import Disk
from tests.helpers.event_files import scalars
from tests.helpers.handlers import wait_for_handlers
from tests.helpers.imports import ROOT
from tests.helpers.running import exit_code

SHORT = {"model": "mlp", "hidden": 8, "epochs": 4, "batch_size": 10, "log_every": 4}
LONG = {**SHORT, "epochs": 1_000_000, "save_minutes": 0.001}
ROW = [8, 1, 0.5, 0.75, "0.01", 2.0, 0, "1"]


class NoView:
    """Shows nothing."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def follow(self, history):
        pass


@pytest.fixture
def often(monkeypatch):
    """Updates that follow one another at once, to disturb a run as much as they can."""
    monkeypatch.setattr("src.reporting.live.PAUSE", 0.0)


def read_table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def columns(path, steps):
    """The numbers of a table by column, each with its step."""
    rows = read_table(path)
    return {
        name: [
            (step, float(row[name]))
            for step, row in zip(steps, rows, strict=True)
            if row[name]
        ]
        for name in rows[0]
        if name != "step"
    }


def event_folder(root):
    (folder,) = root.iterdir()
    return folder


def check_event_files(folder):
    """They have all rows of both tables exactly once."""
    steps = [int(row["step"]) for row in read_table(paths.STEPS)]
    ends = [10 * int(row["epoch"]) for row in read_table(paths.HISTORY)]
    tables = {
        "steps": columns(paths.STEPS, steps),
        "history": columns(paths.HISTORY, ends),
    }
    expected = {
        f"{table}/{name}": points
        for table, of in tables.items()
        for name, points in of.items()
        if points
    }
    found = scalars(folder)
    assert found.keys() == expected.keys()
    for tag, points in expected.items():
        # Tables have six decimals, event files float32.
        np.testing.assert_allclose(found[tag], points, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("often")
def test_outputs_are_those_of_a_run_that_nobody_watches(
    prepared, write_params, monkeypatch
):
    write_params(**SHORT)
    monkeypatch.setenv("FOURBEAT_TENSORBOARD", "events")
    assert exit_code("train", monkeypatch) == 0
    watched = outputs(prepared)
    assert paths.LIVE.exists()
    assert event_folder(prepared / "events").exists()
    monkeypatch.setattr("src.reporting.live.LiveView", NoView)
    monkeypatch.delenv("FOURBEAT_TENSORBOARD")
    assert exit_code("train", monkeypatch) == 0
    assert outputs(prepared) == watched


def test_finished_run_leaves_its_last_page_and_an_event_file(
    prepared, write_params, monkeypatch
):
    write_params(**SHORT)
    monkeypatch.setenv("FOURBEAT_TENSORBOARD", "some/where")
    assert exit_code("train", monkeypatch) == 0
    page, last = paths.LIVE.read_text(), read_table(paths.HISTORY)[-1]
    assert "stripes <span>mlp</span>" in page
    assert re.search(r"finished: step 40 of 40,\s+epoch 4 of 4", page)
    assert f"<td>{float(last['validation_loss']):.4f}</td>" in page
    assert "refresh" not in page
    assert sorted(path.name for path in paths.LIVE.parent.iterdir()) == ["index.html"]
    assert re.fullmatch("mlp-[0-9a-f]{8}", event_folder(Path("some/where")).name)
    check_event_files(event_folder(Path("some/where")))


@pytest.mark.usefixtures("often")
def test_resumed_run_shows_the_earlier_epochs(prepared, write_params, monkeypatch):
    params = load_params(write_params(**SHORT))
    monkeypatch.setenv("FOURBEAT_TENSORBOARD", "events")
    monkeypatch.setattr("src.signals.defer", lambda: None)  # signals are pytest's here
    asked = iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr("src.signals.STATE", SignalState())
        patch.setattr(
            "src.resume.resume.pending_signal",
            lambda: signal.SIGTERM if next(asked) == 6 else None,
        )
        with pytest.raises(Stopped):
            train.main(params, StageContext())
    page = paths.LIVE.read_text()
    assert "stopped" in page
    assert "resumes if it is started again" in page
    train.main(params, StageContext())
    page = paths.LIVE.read_text()
    assert re.search(r"finished: step 40 of 40,\s+epoch 4 of 4", page)
    curve = re.search('<path class="training" d="M(.*)h0"/>', page)[1]
    assert len(curve.split("L")) == 12  # 3 rows in each epoch
    assert len(list(event_folder(Path("events")).iterdir())) == 2
    check_event_files(event_folder(Path("events")))


def view(write_params, **changes):
    params = load_params(write_params(**{**SHORT, **changes}))
    return LiveView(params, "stripes", 10, "ab" * 32)


def end_with(error, view):
    with view as live:
        live.follow(History([ROW]))
        raise error


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (DataError("data/x: expected <this>."), "data/x: expected &lt;this&gt;"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_failed_run_says_why(prepared, write_params, error, shown):
    with pytest.raises(type(error)):
        end_with(error, view(write_params))
    page = paths.LIVE.read_text()
    assert f"failed: {shown}: step 8 of 40" in page
    assert "refresh" not in page


def test_other_processes_write_nothing(
    prepared, write_params, become_process, monkeypatch
):
    become_process(1, 2)
    monkeypatch.setenv("FOURBEAT_TENSORBOARD", "events")
    with view(write_params) as live:
        live.follow(History([ROW]))
    assert not paths.LIVE.parent.exists()
    assert not Path("events").exists()


def test_page_that_cannot_be_written_is_one_warning(
    prepared, write_params, monkeypatch, capsys
):
    write_params(**SHORT)
    Path("live").write_text("a file is in the way")
    assert exit_code("train", monkeypatch) == 0
    assert capsys.readouterr().err == (
        "train: warning: live: File exists. A folder must be there: move the file "
        "away. Training continues without the page.\n"
    )


@pytest.mark.usefixtures("often")
def test_full_disk_leaves_the_old_page_and_one_warning(
    prepared, write_params, monkeypatch, capsys
):
    paths.LIVE.parent.mkdir()
    paths.LIVE.write_text("old")
    with monkeypatch.context() as patch:
        disk = Disk(prepared / "live", patch)
        disk.code, disk.failing = errno.ENOSPC, lambda: True
        with view(write_params) as live:
            live.follow(History([ROW]))
    assert paths.LIVE.read_text() == "old"
    assert capsys.readouterr().err == (
        "train: warning: live/index.html: No space left on device. Free some space. "
        "Training continues without the page.\n"
    )


@pytest.mark.usefixtures("often")
def test_event_file_that_cannot_grow_is_one_warning(
    prepared, write_params, monkeypatch, capsys
):
    monkeypatch.setenv("FOURBEAT_TENSORBOARD", "events")
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # less than the rows need, and more than the page needs
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, most))
        with view(write_params) as live:
            live.follow(History([[step, *ROW[1:]] for step in range(1, 5000)]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert "finished: step 4,999" in paths.LIVE.read_text()
    assert capsys.readouterr().err == (
        "train: warning: FOURBEAT_TENSORBOARD: File too large. Training continues "
        "without the event file.\n"
    )


def test_readers_find_a_whole_page_at_any_time(prepared, write_params, often):
    with view(write_params) as live:
        live.follow(History([ROW]))
        for _ in range(200):
            while not paths.LIVE.exists():
                pass
            assert paths.LIVE.read_text().endswith("</html>")


@pytest.mark.parametrize("found", ["file", "/proc/nowhere"])
def test_folder_that_cannot_be_written_ends_the_stage_before_training(
    prepared, write_params, monkeypatch, capsys, found
):
    write_params(**SHORT)
    Path("file").write_text("")
    monkeypatch.setenv("FOURBEAT_TENSORBOARD", found)
    assert exit_code("train", monkeypatch) == 2
    out, error = capsys.readouterr()
    assert re.fullmatch(
        rf"train: FOURBEAT_TENSORBOARD: expected a folder that can be written, found "
        rf"{found}/mlp-[0-9a-f]{{8}}: .+\. Set another folder, or unset "
        r"FOURBEAT_TENSORBOARD\.\n",
        error,
    )
    assert "epoch" not in out
    assert not Path("models").exists()


def test_speed_is_that_of_the_rows_that_this_process_trained(monkeypatch):
    clock = iter([100.0, 110.0, 111.0, 113.0, 114.0])
    now = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr("src.reporting.live.time", now)
    pace = Pace(step=500)
    pace.see(500)  # of an earlier process
    assert pace.steps_per_second() is None
    assert pace.seconds_left(600) is None
    pace.see(510)  # after 10 seconds, most of them compilation
    assert pace.steps_per_second() is None
    pace.see(520)
    pace.see(540)
    assert pace.steps_per_second() == 10.0
    assert pace.seconds_left(600) == 6.0 - 1.0


@pytest.mark.slow
def test_rows_appear_in_an_open_page_and_a_killed_run_is_noticed(
    prepared, write_params, tmp_path_factory
):
    write_params(**LONG)
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_handlers(process)
        while not paths.LIVE.exists():
            assert process.poll() is None
        page = paths.LIVE.resolve()
        with Tab(page, tmp_path_factory.mktemp("browser")) as tab:
            step = (
                "Number(document.querySelector('td')?.textContent.replaceAll(',', ''))"
            )
            first = tab.wait_for(step)
            for _ in range(3):  # by itself
                first = tab.wait_for(f"{step} > {first} ? {step} : 0")
            assert process.poll() is None, "the rows came when the run had ended"
            assert tab.wait_for("document.querySelectorAll('svg path').length") == 5
            process.kill()
            updated = "document.getElementById('updated').textContent"
            tab.wait_for(f"{updated}.match(/no update for ([0-9]+) s, since 20/)?.[1]")
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_stopped_run_says_which_signal_stopped_it(prepared, write_params):
    write_params(**LONG)
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()  # the first epoch
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    page = paths.LIVE.read_text()
    assert "stopped by SIGTERM; resumes if it is started again" in page
    assert "refresh" not in page
