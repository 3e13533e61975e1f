"""Every parameter of training: what changing it changes, and that it is nothing else.

A small run on stripes, compared with the same run after one change. The parameters of
prepare, evaluate and export have their tests in those stages' files.
"""

from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
from flax import nnx

from src.config.load import load_params
from src.config.names import AugmentName
from src.config.params import TRAINING
from src.data.prepared import Manifest
from src.models.checkpoint import weights_of
from src.training.chunk import run_chunk
from src.training.data import count_steps, load_train_data
from src.training.early_stopping import build_early_stopping
from src.training.events import EpochEnd, EpochResult, LogRow, TrainMetrics
from src.training.loop import fit
from src.training.state import build_state, choose_architecture, normalize_pixels
from src.training.validation import ValidationMetrics
from tests.helpers.examples import patterned
from tests.helpers.imports import ROOT

BASE = load_params(ROOT / "params.yaml").model_copy(
    update={
        "model": "mlp",
        "hidden": 16,
        "epochs": 3,
        "batch_size": 16,
        "log_every": 4,
        "lr": 0.01,
    }
)
SPLITS = {"train": patterned(100, seed=1), "validation": patterned(30, seed=2)}
MANIFEST = Manifest.model_construct(image_shape=(8, 8, 1), class_names=["a", "b", "c"])


class Run(NamedTuple):
    """The results of a run."""

    steps: list[int]
    rates: list[float]
    losses: list[float]
    weights: list[dict[str, np.ndarray]]  # after each epoch
    results: list[EpochResult]
    train: list[TrainMetrics]
    validation: list[ValidationMetrics]
    best: int
    stopped: str


def run(**changes: Any) -> Run:
    """Trains as the train stage does; a second such run is the first one's result."""
    return run_once(tuple(changes.items()))


@cache
def run_once(changes: tuple[tuple[str, Any], ...]) -> Run:
    params = BASE.model_copy(update=dict(changes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("src.training.data.open_split", lambda name, _: SPLITS[name])
        data = load_train_data(MANIFEST, params)
    architecture = choose_architecture(params, MANIFEST)
    architecture = normalize_pixels(architecture, params, data.train)
    steps = count_steps(len(data.train), params.batch_size)
    graphdef, state = build_state(params, architecture, steps)
    monitor = build_early_stopping(params)
    found = Run([], [], [], [], [], [], [], 0, "")
    for event in fit(state, graphdef, data, params):
        if isinstance(event, EpochEnd):
            found.weights.append(weights_of(event.model))
            result = event.result
            found.results.append(result)
            found.train.append(result.train)
            found.validation.append(result.validation)
            monitor.update(result.epoch, result.value(params.monitor))
            found = found._replace(best=monitor.best.epoch)
            if stopped := monitor.reason or event.stopped:
                found = found._replace(stopped=stopped.split(":")[0])
                break
        elif isinstance(event, LogRow):
            found.steps.append(event.step)
            found.rates.append(event.lr)
            found.losses.append(event.train.loss if event.train else np.nan)
    return found


def judge_again(run: Run, **changes: Any) -> tuple[int, int, str]:
    """The best epoch, the last one, and why it was the last, with other parameters.

    They are asked between epochs and reach no compiled step: the run is not repeated.
    """
    params = BASE.model_copy(update=changes)
    monitor = build_early_stopping(params)
    for result in run.results:
        monitor.update(result.epoch, result.value(params.monitor))
        if monitor.reason:
            break
    reason = monitor.reason or run.stopped
    return monitor.best.epoch, result.epoch, reason.split(":")[0]


@pytest.fixture
def base():
    return run()


@pytest.fixture
def otherwise():
    """The same run with other rows, metrics and choices of the best epoch."""
    return run(
        log_every=1,
        top_k=1,
        monitor="train_accuracy",
        monitor_mode="min",
        min_delta=9.0,
    )


def same_weights(one: Run, other: Run) -> bool:
    return len(one.weights) == len(other.weights) and all(
        first.keys() == second.keys()
        and all(np.array_equal(first[name], second[name]) for name in first)
        for first, second in zip(one.weights, other.weights, strict=True)
    )


# With its feature disabled, a parameter changes no bit.
ALONE_WITHOUT_EFFECT = {
    "filters": 5,
    "blocks": 2,
    "shift_pixels": 1,
    "rotation_degrees": 45.0,
    "cutout_pixels": 1,
    "mixup_alpha": 0.9,
    "cutmix_alpha": 0.2,
    "crop_area": 0.1,
    "colour_strength": 1.0,
    "erase_area": 0.1,
    "momentum": 0.1,
    "lr_milestones": (1.0,),
    "lr_factor": 0.1,
    "lr_patience": 1,
    "lr_cooldown": 9,
    "start_from_epoch": 2,
    "patience": 3,
    "stop_at": 0.0,
    "stop_if_worse_than": 99.0,
    "max_minutes": 60.0,
    "save_minutes": 0.1,
    "resident_megabytes": 0,
    "on_nan": "skip",
    "max_steps": 18,
    "limit_examples": 100,
}
# Parameters that change every number from the first loss or step on.
CHANGES_THE_WEIGHTS = [
    {"seed": 1},
    {"model": "cnn"},
    {"hidden": 17},
    {"normalize": True},
    {"freeze": ("dense",)},
    {"precision": "bfloat16"},
    {"precision": "float16"},
    {"dropout": 0.0},
    {"label_smoothing": 0.1},
    {"class_weight_power": 1.0},
    {"sampling_power": 1.0},
    {"ema_decay": 0.9},
    *({"augment": (name,)} for name in get_args(AugmentName)),
    *(
        {"optimizer": name}
        for name in ("sgd", "nesterov", "adam", "rmsprop", "lion", "lamb", "muon")
    ),
    {"lr": 0.02},
    {"weight_decay": 0.5},
    {"clip_norm": 0.01},
    {"clip_value": 0.001},
    *(
        {"schedule": name}
        for name in ("constant", "cosine", "linear", "one_cycle", "plateau")
    ),
    {"warmup_epochs": 2.0},
    {"lr_end": 0.005},
    {"batch_size": 20},
    {"epochs": 4},
    {"limit_examples": 60},
    {"overfit_batches": 1},
]
# Parameters of a feature, with the feature enabled.
WITH_ITS_FEATURE = [
    ({"augment": ("shift",)}, {"shift_pixels": 1}),
    ({"augment": ("rotation",)}, {"rotation_degrees": 45.0}),
    ({"augment": ("cutout",)}, {"cutout_pixels": 5}),
    ({"augment": ("mixup",)}, {"mixup_alpha": 0.9}),
    ({"augment": ("cutmix",)}, {"cutmix_alpha": 0.2}),
    ({"augment": ("crop",)}, {"crop_area": 0.1}),
    ({"augment": ("colour",)}, {"colour_strength": 1.0}),
    ({"augment": ("erase",)}, {"erase_area": 0.1}),
    ({"optimizer": "momentum"}, {"momentum": 0.5}),
    ({"optimizer": "muon"}, {"momentum": 0.5}),
    (
        {"schedule": "piecewise", "lr_milestones": (1.0,)},
        {"lr_milestones": (2.0,)},
    ),
    ({"schedule": "piecewise", "lr_milestones": (1.0,)}, {"lr_factor": 0.1}),
    ({"schedule": "exponential", "lr_end": 0.001}, {"lr_end": 0.002}),
    # No change is large enough, so no epoch improves.
    (
        {"schedule": "plateau", "min_delta": 9.0, "lr_patience": 1},
        {"lr_factor": 0.1},
    ),
    (
        {"schedule": "plateau", "min_delta": 9.0, "lr_patience": 1, "epochs": 4},
        {"lr_patience": 2},
    ),
    (
        {"schedule": "plateau", "min_delta": 9.0, "lr_patience": 1, "epochs": 4},
        {"lr_cooldown": 1},
    ),
    (
        {"schedule": "plateau", "min_delta": 9.0, "lr_patience": 1, "epochs": 4},
        {"lr_end": 0.009},
    ),
    (
        {"schedule": "plateau", "lr_patience": 1, "epochs": 4},
        {"min_delta": 9.0},
    ),
    (
        {"schedule": "plateau", "lr_patience": 1, "epochs": 4},
        {"monitor_mode": "max"},
    ),
]


OTHER_PROGRAM = {"on_nan", "resident_megabytes", "max_steps", "limit_examples"}


@pytest.mark.parametrize(
    "compiled",
    [pytest.param(True, marks=pytest.mark.optimized), False],
)
def test_parameters_of_features_that_are_off_change_no_bit(base, compiled):
    """All at once: parameters that change the compiled code or the data, and others."""
    changes = {
        key: value
        for key, value in ALONE_WITHOUT_EFFECT.items()
        if (key in OTHER_PROGRAM) == compiled
    }
    found = run(**changes)
    assert same_weights(found, base)
    assert found._replace(weights=[], stopped="") == base._replace(
        weights=[], stopped=""
    )


@pytest.mark.slow
@pytest.mark.parametrize("changes", CHANGES_THE_WEIGHTS, ids=str)
def test_parameter_of_training_changes_the_weights(base, changes):
    assert not same_weights(run(**changes), base)


@pytest.mark.slow
@pytest.mark.parametrize(("feature", "changes"), WITH_ITS_FEATURE, ids=str)
def test_parameter_of_an_enabled_feature_changes_the_weights(feature, changes):
    without = run(**feature)
    assert not same_weights(run(**{**feature, **changes}), without)


def test_log_every_changes_only_the_rows(base, otherwise):
    assert otherwise.steps == list(range(1, 19))
    assert base.steps == [4, 6, 10, 12, 16, 18]
    assert same_weights(otherwise, base)
    assert otherwise.train == base.train


def test_top_k_changes_only_its_metric(base, otherwise):
    for mine, other in zip(otherwise.validation, base.validation, strict=True):
        assert mine.top_k == mine.accuracy
        assert other.top_k == 1.0
        assert replace(mine, top_k=1.0) == other


@pytest.mark.slow
def test_debug_changes_no_bit(base, capsys):
    found = run(debug=True)
    assert same_weights(found, base)
    assert found._replace(weights=[]) == base._replace(weights=[])
    assert "dead" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value"), [("monitor", "train_accuracy"), ("monitor_mode", "max")]
)
def test_what_is_monitored_changes_the_choice_of_the_epoch(base, key, value):
    assert base.best == 3
    values = [score.loss for score in base.validation]
    if key == "monitor":
        values = [means.accuracy for means in base.train]
    best, _, _ = judge_again(base, **{key: value})
    assert best == 1 + int(np.argmax(values))


def test_min_delta_prefers_the_first_of_nearly_equal_epochs(base, otherwise):
    assert (otherwise.best, base.best) == (1, 3)
    assert judge_again(base, min_delta=9.0)[0] == 1


@pytest.mark.parametrize(
    ("changes", "reason", "epochs"),
    [
        ({"patience": 1, "min_delta": 9.0}, "patience", 2),
        ({"patience": 1, "min_delta": 9.0, "start_from_epoch": 3}, "patience", 3),
        ({"stop_at": 5.0}, "stop_at", 1),
        ({"stop_if_worse_than": 0.001}, "stop_if_worse_than", 1),
        ({}, "epochs", 3),
    ],
    ids=str,
)
def test_monitor_says_why_training_stops(base, changes, reason, epochs):
    _, last, stopped = judge_again(base, **changes)
    assert (stopped, last) == (reason, epochs)


@pytest.mark.parametrize("steps", [8, pytest.param(12, marks=pytest.mark.slow)])
def test_max_steps_takes_the_first_steps_of_the_same_run(otherwise, steps):
    """In the midst of the second epoch, and at its end."""
    found = run(max_steps=steps, log_every=1)
    assert found.stopped == "max_steps"
    assert found.steps == list(range(1, steps + 1))
    assert found.rates == otherwise.rates[:steps]
    assert found.losses == otherwise.losses[:steps]
    assert found.train[0] == otherwise.train[0]
    assert len(found.train) == 2
    assert (found.train[1] == otherwise.train[1]) == (steps == 12)


def test_max_minutes_ends_within_the_epoch_and_still_validates():
    found = run(max_minutes=1e-9)
    assert found.stopped == "max_minutes"
    assert found.steps == [4]
    assert len(found.validation) == 1


@pytest.mark.slow
def test_accumulate_changes_only_rounding():
    whole, sliced = (run(dropout=0.0, accumulate=n) for n in (1, 4))
    for first, second in zip(whole.weights, sliced.weights, strict=True):
        for name, array in first.items():
            # Adam divides by the square root of tiny second moments.
            np.testing.assert_allclose(second[name], array, atol=2e-4)
    assert sliced.rates == whole.rates


def test_plateau_lowers_the_rate_between_epochs_without_recompiling():
    before = run_chunk._cache_size()
    changes = {"schedule": "plateau", "min_delta": 9.0, "lr_patience": 1, "epochs": 4}
    found = run(lr_factor=0.25, **changes)
    expected = [0.01] * 4 + [0.0025] * 2 + [0.000625] * 2
    np.testing.assert_allclose(found.rates, expected, rtol=1e-6)
    assert run_chunk._cache_size() - before == 1


def test_ema_is_validated_and_saved():
    decay = 0.8
    changes = {"batch_size": 100, "dropout": 0.0, "epochs": 2}  # a step an epoch
    found = run(ema_decay=decay, **changes)
    # The weights after 0, 1 and 2 steps, from a run without an average.
    params = BASE.model_copy(update=changes)
    architecture = choose_architecture(params, MANIFEST)
    first = weights_of(nnx.merge(*build_state(params, architecture, 1)).model)
    later = run(**changes).weights
    for name, mean in first.items():
        expected = mean.astype(np.float64)
        for step, weights in enumerate(later, start=1):
            share = min(decay, (1 + step) / (10 + step))
            expected = share * expected + (1 - share) * weights[name]
            average = found.weights[step - 1][name]
            np.testing.assert_allclose(average, expected, atol=1e-6)


def test_limit_examples_selects_a_subset_and_keeps_validation(monkeypatch):
    monkeypatch.setattr("src.training.data.open_split", lambda name, _: SPLITS[name])
    data = load_train_data(MANIFEST, BASE.model_copy(update={"limit_examples": 40}))
    images = {image.tobytes() for image in SPLITS["train"].images}
    train, validation = data.train.examples, data.validation.examples
    assert len(data.train) == 40
    assert {np.asarray(image).tobytes() for image in train.images} <= images
    assert len(set(np.asarray(train.labels).tolist())) == 3
    np.testing.assert_array_equal(validation.images, SPLITS["validation"].images)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "cnn", "cnn_max"])
def test_every_model_overfits_one_batch_in_200_steps(model):
    changes = {"overfit_batches": 1, "batch_size": 32, "epochs": 200, "hidden": None}
    found = run(model=model, lr=0.002, **changes)
    assert found.steps[-1] == 200
    assert found.validation[-1].accuracy == 1.0


def test_every_parameter_of_training_is_tested_here():
    tested = {
        *ALONE_WITHOUT_EFFECT,
        *(key for changes in CHANGES_THE_WEIGHTS for key in changes),
        *(key for _, changes in WITH_ITS_FEATURE for key in changes),
        *(
            "log_every",
            "top_k",
            "debug",
            "deterministic",
            "monitor",
            "monitor_mode",
            "accumulate",
            "init_from",  # in test_initial_weights.py
            "cpu_devices",  # in test_cpu_devices.py
            "calibrate",  # in test_calibration.py
        ),
    }
    assert tested == set(TRAINING)


# Features combined in the compiled step. The first float16 scale does not overflow.
TOGETHER = [
    {"precision": "float16", "accumulate": 4},
    {"precision": "float16", "overfit_batches": 1, "batch_size": 1},
    {"on_nan": "skip", "ema_decay": 0.9, "accumulate": 2, "augment": ("mixup",)},
    {
        "model": "cnn",
        "precision": "bfloat16",
        "accumulate": 2,
        "augment": ("erase", "cutmix"),
    },
    {"model": "cnn_max", "optimizer": "muon", "schedule": "plateau", "clip_norm": 0.1},
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", TOGETHER, ids=str)
def test_features_work_together_whatever_the_chunk_and_with_debug(changes):
    whole = run(**changes)
    assert all(np.isfinite(score.loss) for score in whole.validation)
    again = run(**changes, log_every=1, debug=True)
    assert same_weights(again, whole)
    assert again.validation == whole.validation
    assert again.train == whole.train


@pytest.mark.slow
def test_epoch_whose_only_step_is_skipped_does_not_end_training(monkeypatch):
    monkeypatch.setattr("src.training.loss_scale.FIRST_SCALE", 2.0**40)
    found = run(
        precision="float16",
        overfit_batches=1,
        epochs=40,
        max_steps=40,
        lr=0.0111,
    )
    assert found.train[0] is None
    assert found.train[-1].loss < 1
