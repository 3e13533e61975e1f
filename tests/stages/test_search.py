"""`python -m stages.search` in separate processes."""

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from dvc.utils.hydra import apply_overrides

from src.config.load import load_params
from tests.helpers.clone import Clone
from tests.helpers.handlers import wait_for_handlers
from tests.helpers.imports import ROOT
from tests.helpers.prepared import write_prepared
from tests.helpers.running import run_stage

SPACE = "lr=1e-4..1e-1", "batch_size=16,32"
SMALL = {"model": "mlp", "hidden": 16, "epochs": 2}
OUTPUTS = (
    "models/model.json",
    "metrics/train.json",
    "metrics/plots/history.csv",
    "dvc.lock",
    ".resume/state-1.snapshot",
)


def trials_of(folder, name="lr-batch_size"):
    """The trials in a study's file, as optuna itself reads them."""
    url = f"sqlite:///{folder}/.search/{name}.db"
    return optuna.load_study(study_name="search", storage=url).trials


def facts(trials):
    """All that must not depend on kills."""
    return [
        (each.state, each.params, each.value, each.intermediate_values)
        for each in trials
    ]


def contents(folder):
    """The bytes of all files that are not the search's."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".search" not in path.parts
    }


def set_winner(folder, line):
    """Sets the parameters of a winner's line, as `dvc exp run` would."""
    words = shlex.split(line)
    assert words[:3] == ["dvc", "exp", "run"]
    assert set(words[3::2]) == {"-S"}
    apply_overrides(folder / "params.yaml", words[4::2])
    return load_params(folder / "params.yaml")


def start_search(folder, *arguments):
    """Starts a search whose processes form a group."""
    return subprocess.Popen(
        [sys.executable, "-m", "stages.search", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(process):
    """The numbers of the processes that a process has started; needs /proc."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(number) for number in listed.split()]


def wait_until(condition, process):
    """Waits until `condition()`; the process must not end before."""
    end = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def started(folder):
    """How many trials a search has begun; reads the file without changing it."""
    url = f"file:{folder}/.search/lr-batch_size.db?mode=ro"
    try:
        with closing(sqlite3.connect(url, uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM trials").fetchone()[0]
    except sqlite3.OperationalError:  # no file yet, or no tables
        return 0


def test_search_sees_no_test_split_and_changes_no_output(prepared, write_params):
    write_params(**SMALL)
    for name in OUTPUTS:
        (prepared / name).parent.mkdir(parents=True, exist_ok=True)
        (prepared / name).write_text(name)
    (prepared / "data/prepared/test.npz").unlink()
    before = contents(prepared)
    arguments = [*SPACE, "--trials", "2"]
    result = run_stage("search", prepared, arguments)
    assert result.returncode == 0, result.stderr
    assert contents(prepared) == before
    assert result.stdout.count("\n") == 1

    trials = trials_of(prepared)
    best = min(trial.value for trial in trials if trial.state.name == "COMPLETE")
    assert f"validation_loss {best:.4f} -> .search/lr-batch_size.png" in result.stderr
    lines = result.stderr.splitlines()
    assert [line.split("  ")[0] for line in lines[:2]] == [
        f"trial {number}/2" for number in (1, 2)
    ]
    assert lines[2].split() == ["trial", "lr", "batch_size", "validation_loss"]
    picture = prepared / ".search/lr-batch_size.png"
    assert picture.read_bytes().startswith(b"\x89PNG")

    # Again: nothing is left to do, and the answer is the same.
    again = run_stage("search", prepared, arguments)
    assert (again.returncode, again.stdout) == (0, result.stdout)
    assert again.stderr.splitlines() == lines[2:]
    assert facts(trials_of(prepared)) == facts(trials)

    changed = set_winner(prepared, result.stdout)
    first = lines[3].split()
    assert f"{changed.lr:g}" == first[1]
    assert str(changed.batch_size) == first[2]

    other = run_stage("search", prepared, ["lr=1e-4..1", SPACE[1]])
    assert other.returncode == 2
    assert other.stderr == (
        "search: .search/lr-batch_size.db: expected lr: 0.0001..0.1, as this study "
        "began, found 0.0001..1.0. Undo the change, or begin another study: --name "
        "NAME.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["optimiser=adam"], "optimiser: unknown key. Did you mean 'optimizer'?"),
        (
            [*SPACE, "--trials", "0"],
            "--trials: expected an integer >= 1, found 0. Use --trials 1 or more.",
        ),
        (
            [*SPACE, "--name", "../x"],
            "--name: expected at most 100 letters, digits, dots, hyphens and "
            "underscores, found '../x'. Use --name mine.",
        ),
    ],
)
def test_wrong_argument_is_refused_in_one_line_with_code_two(
    prepared, write_params, arguments, line
):
    write_params(**SMALL)
    result = run_stage("search", prepared, arguments)
    assert result.returncode == 2
    assert result.stderr == f"search: {line}\n"
    assert not (prepared / ".search").exists()


def test_search_without_data_says_what_to_run(tmp_path, write_params):
    write_params(**SMALL)
    result = run_stage("search", tmp_path, SPACE)
    assert result.returncode == 3
    assert "data/prepared/manifest.json: expected a file, found none" in result.stderr


@pytest.mark.slow
def test_trials_have_the_scores_that_the_train_stage_gives(
    tmp_path, write_params, monkeypatch
):
    """Also where a trial of the same process takes two devices: `cnn`, 16 images."""
    write_prepared(tmp_path, shape=(32, 32, 1))
    write_params(epochs=2)
    space = "model=mlp,cnn", "batch_size=8,16"
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    result = run_stage("search", tmp_path, [*space, "--workers", "2"])
    assert result.returncode == 0, result.stderr
    finished = [
        trial
        for trial in trials_of(tmp_path, "model-batch_size")
        if trial.state.name == "COMPLETE"
    ]
    assert finished
    devices = set()
    for trial in finished:
        write_params(epochs=2, **trial.params)
        trained = run_stage("train", tmp_path)
        assert trained.returncode == 0, trained.stderr
        found = json.loads((tmp_path / "metrics/train.json").read_text())
        assert found["validation"]["loss"] == round(trial.value, 6)
        record = json.loads((tmp_path / "models/model.json").read_text())
        devices.add(record["devices"])
    set_winner(tmp_path, result.stdout)
    assert devices


@pytest.mark.slow
def test_killed_search_goes_on_as_if_it_had_not_been(tmp_path, write_params):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    arguments = [*SPACE, "--trials", "12"]
    write_params(**{**SMALL, "epochs": 6})
    for folder in (whole, killed):
        folder.mkdir()
        write_prepared(folder)
        (folder / "params.yaml").write_bytes((tmp_path / "params.yaml").read_bytes())
    answer = run_stage("search", whole, arguments)
    assert answer.returncode == 0, answer.stderr
    expected = trials_of(whole)
    for count in (2, 5, 9):
        process = start_search(killed, *arguments)
        wait_until(lambda count=count: started(killed) > count, process)
        process.kill()
        process.communicate()
    last = run_stage("search", killed, arguments)
    assert (last.returncode, last.stdout) == (0, answer.stdout)
    assert facts(trials_of(killed)) == facts(expected)


@pytest.mark.slow
def test_killed_helper_loses_its_trial_to_the_other_worker(prepared, write_params):
    write_params(**{**SMALL, "epochs": 300})
    process = start_search(prepared, *SPACE, "--trials", "6", "--workers", "2")
    wait_until(lambda: started(prepared) >= 2, process)
    (helper,) = children(process)
    os.kill(helper, signal.SIGKILL)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert out.count("\n") == 1
    assert "search: warning: another worker ended with code -9; continuing" in errors
    trials = trials_of(prepared)
    assert [trial.number for trial in trials] == list(range(6))
    assert all(trial.state.is_finished() for trial in trials)
    told = [line.split("  ")[0] for line in errors.splitlines() if "/6  " in line]
    assert sorted(told) == [f"trial {number}/6" for number in range(1, 7)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_signal_ends_all_workers_with_one_line(prepared, write_params, number, code):
    write_params(**{**SMALL, "epochs": 100_000})
    process = start_search(prepared, *SPACE, "--workers", "2")
    wait_for_handlers(process)
    wait_until(lambda: started(prepared) == 2, process)
    (helper,) = children(process)
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert errors.splitlines()[-1] == (
        f"search: stopped by {number.name}, unfinished. Run it again."
    )
    assert not Path(f"/proc/{helper}").exists()


@pytest.mark.slow
def test_helper_ends_when_its_starter_is_killed(prepared, write_params):
    write_params(**{**SMALL, "epochs": 100_000})
    process = start_search(prepared, *SPACE, "--workers", "2")
    wait_until(lambda: started(prepared) == 2, process)
    process.kill()
    process.communicate(timeout=60)  # the helper holds the other end of stderr


@pytest.mark.slow
def test_best_trials_are_queued_for_dvc(tmp_path):
    clone = Clone(tmp_path)
    clone.run("python", "-m", "stages.prepare")
    clone.run(
        *("python", "-m", "stages.search", *SPACE),
        *("--trials", "3", "--queue", "2"),
    )
    finished = sorted(
        (trial for trial in trials_of(tmp_path) if trial.state.name == "COMPLETE"),
        key=lambda trial: trial.value,
    )
    shown = json.loads(clone.run("dvc", "exp", "show", "--json"))
    groups = [each for commit in shown for each in commit["experiments"] or []]
    queued = [
        group["revs"][0]["data"]["params"]["params.yaml"]["data"] for group in groups
    ]
    assert {group["executor"]["state"] for group in groups} == {"queued"}
    assert sorted(values["lr"] for values in queued) == sorted(
        float(f"{trial.params['lr']:.4g}") for trial in finished[:2]
    )
    assert clone.run("git", "status", "--porcelain") == ""
