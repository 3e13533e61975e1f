"""The study in its file: claims, kills, several processes, damaged files.

The tests of kills run without training, in processes that are forked from one that has
imported optuna but not JAX.
"""

import json
import os
import sqlite3

import pytest
from optuna.trial import TrialState

from src.config.load import load_params
from src.data.prepared import Manifest
from src.errors import DataError, ParameterError, StorageError
from src.experiments.search_space import parse_space
from src.experiments.search_study import Outcome, SearchStudy, study_origin
from tests.helpers.imports import ROOT
from tests.helpers.running import run_python

PARAMS = load_params(ROOT / "params.yaml")
WORDS = "lr=1e-4..1e-1", "model=cnn,resnet,mlp", "epochs=5"
MANIFEST = Manifest(
    dataset="any",
    version="1",
    class_names=["a", "b"],
    image_shape=(8, 8, 1),
    sha256={"train": "1" * 64, "validation": "2" * 64, "test": "3" * 64},
)

# A session works on the study as `work` does; the loss is a function of the values. It
# kills itself at an event, such as "claimed 3" or its fourth one: kill -9.
SESSIONS = """
import os, signal, sys, time
from pathlib import Path
from src.config.load import load_params
from src.experiments.search_space import parse_space
from src.experiments.search_study import Outcome, SearchStudy

ROOT, TOTAL = Path({root!r}), 12
PARAMS = load_params(ROOT / "params.yaml")
SPACE = parse_space({words!r}, PARAMS)

def session(name, fatal="", pause=0.0):
    events = []

    def at(event):
        events.append(event)
        with open("log", "a") as log:
            log.write(f"{{name}} {{event}}\\n")
        if fatal in (event, len(events)):
            os.kill(os.getpid(), signal.SIGKILL)

    if process := os.fork():
        return process
    study = SearchStudy(Path("study.db"), SPACE, PARAMS)
    while trial := study.claim(TOTAL):
        number = trial.number
        at(f"claimed {{number}}")
        loss = abs(trial.params["lr"] - 0.003) + 0.1 * (trial.params["model"] == "mlp")
        outcome = Outcome(loss, "best epoch 2")
        for epoch in range(1, 3):
            time.sleep(pause)
            stopped = study.report(trial, epoch, loss + 0.1 / epoch, 2)
            at(f"reported {{number}} {{epoch}}")
            if stopped:
                outcome = Outcome(None, f"stopped after epoch {{epoch}}")
                break
        if number == 2:
            outcome = Outcome(None, "refused: as a test")
        study.finish(trial, outcome)
        at(f"finished {{number}}")
    os._exit(0)

def ends(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
"""


def run_sessions(folder, script):
    folder.mkdir(exist_ok=True)
    source = SESSIONS.format(root=str(ROOT), words=WORDS) + script
    result = run_python(["-c", source], folder)
    assert result.returncode == 0, result.stderr
    events = (folder / "log").read_text().splitlines()
    study = SearchStudy(folder / "study.db", parse_space(WORDS, PARAMS), PARAMS)
    return study.trials(), [event.split() for event in events]


def facts(trials):
    """All of a trial but its times and the number of its starts."""
    return [
        (
            trial.number,
            trial.state,
            trial.params,
            trial.value,
            trial.intermediate_values,
            trial.user_attrs["note"],
        )
        for trial in trials
    ]


def test_killed_worker_proposes_the_same_trials_as_one_that_was_not(tmp_path):
    whole, _ = run_sessions(tmp_path / "whole", "assert ends(session('a')) == 0")
    states = [trial.state for trial in whole]
    assert len(whole) == 12
    assert {TrialState.COMPLETE, TrialState.PRUNED} == set(states)
    assert states[2] == TrialState.PRUNED

    fatal = "claimed 0", "reported 3 1", "finished 8", "claimed 11"
    killed, events = run_sessions(
        tmp_path / "killed",
        f"for fatal in {fatal!r}:\n"
        "    assert ends(session('k', fatal)) == -9, fatal\n"
        "assert ends(session('last')) == 0",
    )
    claimed = [event[2] for event in events if event[1] == "claimed"]
    assert len(claimed) == 12 + 3  # each kill repeats its trial alone
    assert facts(killed) == facts(whole)


def test_two_workers_share_the_trials_and_one_takes_over_a_lost_one(tmp_path):
    trials, events = run_sessions(
        tmp_path,
        "a = session('a', 4, 0.02)\n"
        "b = session('b', pause=0.02)\n"
        "assert (ends(a), ends(b)) == (-9, 0)",
    )
    assert [trial.number for trial in trials] == list(range(12))
    assert all(trial.state.is_finished() for trial in trials)
    assert {event[0] for event in events} == {"a", "b"}
    finished = sorted(int(event[2]) for event in events if event[1] == "finished")
    assert finished == list(range(12))
    claimed = [int(event[2]) for event in events if event[1] == "claimed"]
    lost = set(range(12)) & {n for n in claimed if claimed.count(n) == 2}
    assert len(claimed) == 12 + len(lost)
    assert len(lost) <= 1  # none if `a` was killed just after a trial had finished
    values = [(trial.params["lr"], trial.params["model"]) for trial in trials]
    assert len(set(values)) == 12


def test_file_has_what_optuna_itself_reads(tmp_path):
    import optuna

    params = PARAMS.model_copy(update={"monitor": "validation_f1"})
    study = SearchStudy(tmp_path / "s.db", parse_space(WORDS, PARAMS), params)
    trial = study.claim(1)
    study.report(trial, 1, 0.5, 5)
    study.finish(trial, Outcome(0.75, "best epoch 2"))
    assert study.claim(1) is None
    url = f"sqlite:///{tmp_path}/s.db"
    read = optuna.load_study(study_name="search", storage=url)
    assert read.best_value == 0.75
    assert read.best_params == trial.params
    assert read.direction.name == "MAXIMIZE"
    assert read.trials[0].intermediate_values == {1: 0.5}


def origin(params=PARAMS, words=WORDS, manifest=MANIFEST):
    return study_origin(params, parse_space(words, params), manifest)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The file of a study that knows its origin."""
    path = tmp_path_factory.mktemp("begun") / "s.db"
    study = SearchStudy(path, parse_space(WORDS, PARAMS), PARAMS)
    study.check_origin(origin())
    return path


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (origin(PARAMS.model_copy(update={"dropout": 0.25})), "dropout: 0.5, .* 0.25"),
        (origin(PARAMS.model_copy(update={"seed": 7})), "seed: 0, .* found 7"),
        (origin(words=["lr=1e-4..1", "model=cnn,mlp"]), "model: cnn,resnet,mlp, .*"),
        (origin(words=["lr=1e-4..2e-1", *WORDS[1:]]), r"lr: 0.0001..0.1, .*\.\.0.2\."),
        (
            origin(
                manifest=MANIFEST.model_copy(update={"sha256": {"train": "9" * 64}})
            ),
            "data/prepared/train: 111111111111, .* 999999999999",
        ),
        (
            origin(manifest=MANIFEST.model_copy(update={"class_names": ["a", "c"]})),
            "class names: a, b, .* a, c",
        ),
    ],
)
def test_study_of_something_else_is_refused_with_what_differs(begun, other, message):
    study = SearchStudy(begun, parse_space(WORDS, PARAMS), PARAMS)
    study.check_origin(origin())
    with pytest.raises(ParameterError, match=message) as error:
        study.check_origin(other)
    assert "--name NAME" in str(error.value)


def test_values_that_the_space_replaces_may_change(begun):
    study = SearchStudy(begun, parse_space(WORDS, PARAMS), PARAMS)
    study.check_origin(origin(PARAMS.model_copy(update={"lr": 0.5, "model": "mlp"})))


def other_database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE studies (name TEXT)")


def damaged(path):
    SearchStudy(path, parse_space(WORDS, PARAMS), PARAMS).claim(1)
    content = bytearray(path.read_bytes())
    content[100:8192] = os.urandom(8092)
    path.write_bytes(content)


def truncated(path):
    SearchStudy(path, parse_space(WORDS, PARAMS), PARAMS).claim(1)
    path.write_bytes(path.read_bytes()[:6000])


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"no database" * 100),
        other_database,
        damaged,
        truncated,
    ],
)
def test_file_that_is_no_study_is_refused_in_one_line(tmp_path, write):
    write(path := tmp_path / "s.db")
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"s\.db: expected a study of stages\.search"):
        SearchStudy(path, parse_space(WORDS, PARAMS), PARAMS).claim(1)
    if write is not other_database:  # optuna adds its tables to any database
        assert path.read_bytes() == before


def test_state_that_optuna_does_not_know_is_refused(tmp_path):
    path = tmp_path / "s.db"
    SearchStudy(path, parse_space(WORDS, PARAMS), PARAMS).claim(1)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE trials SET state = 'ASLEEP'")
    with pytest.raises(DataError, match="expected a study"):
        SearchStudy(path, parse_space(WORDS, PARAMS), PARAMS)


def test_place_that_cannot_be_written_is_a_fault_of_the_disk(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "s.db").mkdir()
    (tmp_path / "link.lock").symlink_to("elsewhere")
    for path in ("file/s.db", "s.db", "link.db"):
        with pytest.raises(StorageError):
            SearchStudy(tmp_path / path, parse_space(WORDS, PARAMS), PARAMS)


def test_trial_that_was_begun_too_often_counts_its_starts(tmp_path):
    study = SearchStudy(tmp_path / "s.db", parse_space(WORDS, PARAMS), PARAMS)
    for start in (1, 2, 3):
        assert study.count_start(study.claim(1), 1) == start
    assert study.count_start(study.claim(1), -1) == 2
    assert json.dumps(study.trials()[0].user_attrs) == '{"starts": 2}'
