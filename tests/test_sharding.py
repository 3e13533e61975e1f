"""Data parallelism: several devices give the numbers of one.

JAX splits the CPU into devices; each device count needs its own process. Bits differ
between device counts, because sums are split differently.
"""

import ast
import json
import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from src.errors import ParameterError
from src.sharding import check_batch
from tests.helpers.chaos import outputs
from tests.helpers.device_runs import RUNS, splits
from tests.helpers.imports import ROOT
from tests.helpers.running import run_stage


def shown(devices: int) -> dict[str, str]:
    """The environment in which JAX sees `devices` devices."""
    flags = os.environ.get("XLA_FLAGS", "")
    return {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}"}


@cache
def found(devices: int, *names: str, again: int = 0):
    """The output of `tests.helpers.device_runs`; `again` distinguishes repetitions."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.helpers.device_runs", *names],
        cwd=ROOT,
        env={**os.environ, **shown(devices)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    numbers = json.loads(result.stdout.splitlines()[-1])
    assert numbers.pop("devices") == devices
    return numbers


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 3, 8])
def test_loss_curve_matches_one_device(devices):
    one, several = (found(count, "mlp")["mlp"] for count in (1, devices))
    assert len(one["losses"]) == 200
    for name in ("losses", "validation"):
        np.testing.assert_allclose(several[name], one[name], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RUNS.keys() - {"mlp"}))
def test_loss_curve_on_three_devices_matches_one_with(name):
    """Of the CNN, its first 20 steps.

    Later, a relu whose input is 0 up to rounding may flip, and the curves diverge. The
    same happens on one device when its sums are split differently.
    """
    others = sorted(RUNS.keys() - {"mlp"})
    one, several = (found(count, *others)[name] for count in (1, 3))
    tolerance = 1e-3 if name == "bfloat16" else 1e-5  # 8 and 24 bits of mantissa
    assert len(one["losses"]) >= 20
    for column in ("losses", "validation"):
        np.testing.assert_allclose(several[column], one[column], rtol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 3, 8])
def test_validation_counts_each_example_once(devices):
    """300 examples, in batches of 256, or of 258 on three devices."""
    loss, confusion, top_k = found(devices, "mlp")["mlp"]["first"]
    _, validation = splits()
    np.testing.assert_array_equal(
        np.sum(confusion, axis=1), np.bincount(validation.labels)
    )
    expected = found(1, "mlp")["mlp"]["first"]
    assert (confusion, top_k) == tuple(expected[1:])
    assert loss == pytest.approx(expected[0], rel=1e-6)


@pytest.mark.slow
def test_two_runs_on_two_devices_are_bit_identical():
    assert found(2, "mlp") == found(2, "mlp", again=1)


@pytest.mark.slow
def test_default_run_on_two_devices_matches_one(write_params, monkeypatch):
    """60 steps: once, rounding in the gradient made the curves diverge by step 44."""
    folder = write_params(data_path=ROOT / "data/raw", log_every=1, max_steps=60).parent
    monkeypatch.chdir(folder)
    assert run_stage("prepare", folder).returncode == 0
    losses = []
    for devices in (1, 2):
        result = run_stage("train", folder, **shown(devices))
        assert result.returncode == 0, result.stderr
        assert "resuming" not in result.stdout
        table = folder / "metrics/plots/steps.csv"
        losses.append(np.loadtxt(table, delimiter=",", skiprows=1, usecols=2))
    assert len(losses[0]) == 60
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


# ---- Divisible batch sizes ----


@pytest.mark.parametrize(
    ("devices", "accumulate", "size"),
    [(1, 1, 7), (2, 1, 32), (3, 1, 48), (8, 1, 8), (2, 4, 32), (1, 4, 32)],
)
def test_divisible_batch_size_is_accepted(params, devices, accumulate, size):
    changes = {"batch_size": size, "accumulate": accumulate}
    check_batch(params.model_copy(update=changes), devices)


@pytest.mark.parametrize(
    ("devices", "accumulate", "size", "nearest"),
    [
        pytest.param(3, 1, 32, 33, id="above"),
        pytest.param(3, 1, 31, 30, id="below"),
        pytest.param(8, 1, 36, 32, id="half way"),
        pytest.param(8, 1, 37, 40, id="beyond half way"),
        pytest.param(8, 1, 1, 8, id="none below"),
        pytest.param(2, 4, 36, 32, id="slices, half way"),
        pytest.param(3, 4, 32, 36, id="slices, above"),
        pytest.param(2, 2, 33, 32, id="slices, below"),
        pytest.param(8, 8, 32, 64, id="slices, none below"),
    ],
)
def test_indivisible_batch_size_is_refused_and_names_the_nearest(
    params, devices, accumulate, size, nearest
):
    changes = {"batch_size": size, "accumulate": accumulate}
    slices = f" times accumulate ({accumulate})" if accumulate > 1 else ""
    with pytest.raises(ParameterError) as caught:
        check_batch(params.model_copy(update=changes), devices)
    assert str(caught.value) == (
        f"params.yaml: batch_size: expected a multiple of the {devices} devices"
        f"{slices}, found {size}. Use {nearest}, or on a CPU other cpu_devices."
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"batch_size": 31},
            "batch_size: expected a multiple of the 2 devices, found 31. Use 30, or on "
            "a CPU other cpu_devices.",
        ),
        (
            {"debug": "true"},
            "debug: expected one device for debug: true, found 2. Set debug: false, or "
            "give JAX one device.",
        ),
    ],
)
def test_unsupported_setting_on_several_devices_is_refused_in_one_line(
    prepared, write_params, changes, line
):
    write_params(**{"batch_size": 16, "model": "mlp", **changes})
    result = run_stage("train", prepared, **shown(2))
    assert result.returncode == 2
    assert result.stderr == f"train: params.yaml: {line}\n"


# ---- Collectives and layout ----

COLLECTIVES = """
import re
from src.training.data import epoch_order
from src.sharding import on_all_devices
from src.training.state import STEP_STREAM
from src.training.state import seed_key
from src.training.chunk import ChunkSpan, run_chunk
from tests.helpers.device_runs import prepared_run
params, *_ = prepared_run(changes)
with on_all_devices(params):
    params, data, graphdef, state = prepared_run(changes)
    order = epoch_order(data.train.labels, params.batch_size, 0, 1, 0.0)
    (block,) = data.train.blocks(order)
    arguments = state, block, ChunkSpan(0, 3, 10, 0), seed_key(0, STEP_STREAM)
    lowered = run_chunk.lower(*arguments, graphdef=graphdef, params=params)
    text = lowered.compile().as_text()
words = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-[a-z]+"
print(re.findall(rf" ({words})(?:-start)?[(]", text))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="mlp"),
        pytest.param(
            {
                "augment": (
                    *("flip", "shift", "rotation", "crop"),
                    *("colour", "trivial", "cutout", "erase"),
                )
            },
            id="all changes of images",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"model": "cnn", "batch_size": 160},
            id="cnn in slices",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_compiled_step_has_one_all_reduce(run_source, changes):
    """Except with mixup and `accumulate`, which need rows of other devices."""
    result = run_source(f"changes = {changes!r}\n{COLLECTIVES}", **shown(2))
    assert result.returncode == 0, result.stderr
    assert result.stdout == "['all-reduce']\n"


@pytest.mark.slow
def test_split_layer_exchanges_activations_and_no_gradients(run_source):
    """The second all-reduce sums the gradients' norm, where a row is logged."""
    changes = {**RUNS["split"], "ema_decay": None, "clip_norm": None}
    result = run_source(f"changes = {changes!r}\n{COLLECTIVES}", **shown(2))
    assert result.returncode == 0, result.stderr
    assert sorted(ast.literal_eval(result.stdout)) == [
        *("all-gather", "all-reduce", "all-reduce"),
        *("all-to-all", "all-to-all", "reduce-scatter"),
    ]


LAYOUT = """
from flax import nnx
from src.sharding import on_all_devices
from src.training.loop import fit
from tests.helpers.device_runs import RUNS, prepared_run
params, *_ = prepared_run(RUNS["split"])
with on_all_devices(params):
    params, data, graphdef, state = prepared_run(RUNS["split"])
    for event in fit(state, graphdef, data, params):
        if hasattr(event, "state"):
            state = event.state
            for path, leaf in nnx.to_flat_state(state):
                array = leaf[...]
                here = array.addressable_shards[0].data.size
                divided = "dense" in path
                assert here * (2 if divided else 1) == array.size, path
                print("divided" if divided else "whole")
"""


@pytest.mark.slow
def test_split_layer_its_average_and_moments_stay_split_while_training(run_source):
    result = run_source(LAYOUT, **shown(2))
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) == {"divided", "whole"}


STOPPED = """
import os, runpy, signal
def chunk_end(self, start, end):
    self.steps = 1
    if start == 3: os.kill(os.getpid(), signal.SIGTERM)
    return min(start + 1, end)
import src.training.pacing
src.training.pacing.ChunkSizer.chunk_end = chunk_end
runpy.run_module('stages.train', run_name='__main__')
"""


@pytest.mark.slow
def test_interrupted_run_with_a_split_layer_ends_with_the_same_bits(
    prepared, write_params, run_source
):
    write_params(model="cnn", hidden=64, batch_size=16, epochs=2, log_every=1)
    whole = run_stage("train", prepared, **shown(2))
    assert whole.returncode == 0, whole.stderr
    undisturbed = outputs(prepared)
    stopped = run_source(STOPPED, **shown(2))
    assert stopped.returncode == 143, stopped.stderr
    resumed = run_stage("train", prepared, **shown(2))
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming in epoch 1, after 4 of its steps" in resumed.stdout
    assert outputs(prepared) == undisturbed
