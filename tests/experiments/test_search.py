"""How trials end: the score, halving, patience, faults, kills."""

import pytest
from optuna.trial import TrialState

from src.data.prepared import load_manifest
from src.errors import DataError
from src.experiments.search import work
from src.experiments.search_space import parse_space
from src.experiments.search_study import MAX_STARTS, SearchStudy
from src.signals import Stopped
from src.training.chunk import run_chunk
from src.training.events import EpochResult
from src.training.validation import ValidationMetrics


@pytest.fixture
def search(prepared, params, monkeypatch):
    """Works on a study of `words`; returns its trials."""
    # Other tests use what is compiled.
    monkeypatch.setattr("src.experiments.search.jax.clear_caches", lambda: None)

    def run(*words, **changes):
        changed = params.model_copy(update=changes)
        space = parse_space(words, changed)
        study = SearchStudy(prepared / "s.db", space, changed)
        work(study, load_manifest(), 20, fewer_devices=False)
        return study.trials()

    return run


@pytest.fixture
def results(monkeypatch):
    """Sets what training yields: by dropout, the validation losses of its epochs.

    An exception in the place of a loss is raised there.
    """

    def train(losses):
        def train_epochs(params, manifest):
            for epoch, loss in enumerate(losses(params.dropout), 1):
                if isinstance(loss, BaseException):
                    raise loss
                yield epoch_result(epoch, loss)

        monkeypatch.setattr("src.experiments.search.train_epochs", train_epochs)

    return train


def epoch_result(epoch, loss):
    metrics = ValidationMetrics(loss, 1 - loss, 0.0, 0.0, 0.0, 0.0, 0.0)
    return EpochResult(epoch, epoch, None, metrics, 0.1, 0, ())


def notes(trials, key="dropout"):
    return {trial.params[key]: trial.user_attrs["note"] for trial in trials}


def test_trials_that_are_refused_or_diverge_count_and_the_search_goes_on(
    search, capsys
):
    trials = search("lr=0.002,1e30", "batch_size=16,512", optimizer="sgd", epochs=1)
    assert len(trials) == 4
    found = {tuple(trial.params.values()): trial for trial in trials}
    good = found["0.002", "16"]
    assert good.state == TrialState.COMPLETE
    for lr in ("0.002", "1e30"):
        assert found[lr, "512"].state == TrialState.PRUNED
        assert found[lr, "512"].user_attrs["note"] == (
            "refused: params.yaml: batch_size: expected at most the 100 training "
            "examples, found 512. Use 100 or less"
        )
    assert found["1e30", "16"].user_attrs["note"].startswith("diverged: step ")
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    numbers = [line.split("  ")[0] for line in lines]
    assert numbers == ["trial 1/4", "trial 2/4", "trial 3/4", "trial 4/4"]
    assert f"lr 0.002  batch_size 16  validation_loss {good.value:.4f}" in printed.err


def test_values_that_contradict_each_other_are_refused(search, results):
    results(lambda dropout: [0.5])
    found = notes(search("lr_end=0.5,0.0"), "lr_end")
    assert found["0.5"].startswith("refused: lr_end: expected a number in [0, lr")
    assert found["0.0"] == "best epoch 1"


def test_weights_that_are_missing_are_a_fault_of_the_trial(search):
    found = notes(search("init_from=none,nothing"), "init_from")
    assert all(note.startswith("refused: data/weights/") for note in found.values())


def test_missing_data_end_the_search(search, prepared):
    (prepared / "data/prepared/train.npz").unlink()
    with pytest.raises(DataError, match=r"train\.npz"):
        search("lr=0.1,0.2")


def test_score_is_that_of_the_best_epoch(search, results):
    results(lambda dropout: [0.5, 0.3 + dropout, 0.2 + dropout, 0.4])
    trials = search("dropout=0.1", "lr=0.1,0.2", epochs=3)
    assert trials[0].value == 0.2 + 0.1
    assert trials[0].user_attrs["note"] == "best epoch 3"
    assert trials[0].intermediate_values[1] == 0.5


def test_monitor_that_should_grow_does(search, results):
    results(lambda dropout: [0.5, 0.25, 0.75])
    (trial, _) = search("lr=0.1,0.2", monitor="validation_accuracy", epochs=3)
    assert (trial.value, trial.user_attrs["note"]) == (0.75, "best epoch 2")


def test_improvement_below_min_delta_is_none_as_in_train(search, results):
    results(lambda dropout: [0.5, 0.45, 0.42])
    (trial, _) = search("lr=0.1,0.2", epochs=3, min_delta=0.1)
    assert (trial.value, trial.user_attrs["note"]) == (0.5, "best epoch 1")


def test_trial_that_is_behind_is_stopped_after_the_first_epoch(search, results):
    results(lambda dropout: [0.5 + dropout, 0.4 + dropout])
    trials = search("dropout=0,0.1,0.2,0.3", epochs=2)
    best = 1.0
    for trial in trials:  # of fewer than eight, the best so far continues
        loss = 0.5 + float(trial.params["dropout"])
        stopped = loss > best
        best = min(best, loss)
        expected = "stopped after epoch 1" if stopped else "best epoch 2"
        assert trial.user_attrs["note"] == expected
        assert trial.state == (TrialState.PRUNED if stopped else TrialState.COMPLETE)


def test_patience_ends_a_trial_as_in_train(search, results):
    results(lambda dropout: [0.5, 0.6, 0.6, 0.1])
    (trial, _) = search("dropout=0,0.1", epochs=9, patience=2)
    assert list(trial.intermediate_values) == [1, 2, 3]
    assert trial.user_attrs["note"] == "best epoch 1"


def test_trial_without_a_number_has_no_score(search, results):
    results(lambda dropout: [0.5])
    (trial, _) = search("dropout=0,0.1", monitor="train_loss", epochs=1)
    assert trial.user_attrs["note"] == "no epoch has a train_loss"
    assert trial.state == TrialState.PRUNED


def test_trial_that_kills_its_process_is_given_up(search, results, prepared, params):
    space = parse_space(["dropout=0,0.1"], params)
    study = SearchStudy(prepared / "s.db", space, params)
    for _ in range(MAX_STARTS):  # as many workers claim it and are killed
        study.count_start(study.claim(2), 1)
    results(lambda dropout: [0.5])
    lost, other = search("dropout=0,0.1")
    assert lost.user_attrs["note"] == "given up: its process was killed 5 times"
    assert other.state == TrialState.COMPLETE


def test_signal_does_not_count_as_a_kill(search, results):
    results(lambda dropout: [0.5, Stopped()])
    for _ in range(MAX_STARTS + 1):
        with pytest.raises(Stopped):
            search("dropout=0,0.1")
    results(lambda dropout: [0.5, 0.25])
    trials = search("dropout=0,0.1", epochs=2)
    assert [trial.user_attrs["starts"] for trial in trials] == [1, 1]
    assert trials[0].value == 0.25


def test_full_memory_is_a_fault_of_the_trial_and_a_bug_is_not(search, results):
    results(lambda dropout: [ZeroDivisionError("a bug")])
    with pytest.raises(ZeroDivisionError):
        search("dropout=0,0.1")
    results(lambda dropout: [MemoryError("9 bytes")] if dropout else [0.5])
    found = notes(search("dropout=0,0.1"))
    assert found == {"0": "best epoch 1", "0.1": "out of memory: 9 bytes"}


@pytest.mark.parametrize(("key", "expected"), [("lr", 0), ("dropout", 1)])
def test_compiled_steps_are_dropped_when_there_are_eight(
    search, results, monkeypatch, key, expected
):
    results(lambda dropout: [0.5])
    cleared = []
    monkeypatch.setattr(
        "src.experiments.search.jax.clear_caches", lambda: cleared.append(None)
    )
    values = ",".join(f"0.{digit}" for digit in range(1, 10))
    assert len(search(f"{key}={values}")) == 9
    assert len(cleared) == expected


def test_trials_that_differ_in_their_learning_rate_share_one_compiled_step(search):
    before = run_chunk._cache_size()
    # In no other test, so that the first trial compiles.
    found = search("lr=0.1,0.03,0.01", label_smoothing=0.0321, epochs=1)
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 3
    assert len({trial.value for trial in found}) == 3
    assert run_chunk._cache_size() - before == 1
