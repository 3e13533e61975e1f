"""Frozen layers keep their bits through every feature of training."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

from src.errors import ParameterError
from src.models.build import MODELS
from src.models.checkpoint import arrays_of, weights_of
from src.resume.snapshots import SnapshotFolder, TrainingProgress
from src.training.data import count_steps, epoch_order
from src.training.early_stopping import build_early_stopping
from src.training.events import EpochEnd, SavePoint
from src.training.loop import fit
from src.training.state import build_state
from tests.helpers.examples import patterned
from tests.helpers.stateful import StatefulNet, stateful
from tests.helpers.training import SMALL, data

FROZEN = {"conv.kernel", "norm.bias", "norm.mean", "norm.scale", "norm.var"}


@pytest.fixture(autouse=True)
def named(monkeypatch):
    monkeypatch.setitem(MODELS, "stateful", StatefulNet)


def start(params, architecture, **changes):
    params = params.model_copy(update={"epochs": 2, **changes})
    steps = count_steps(100, params.batch_size)
    return params, *build_state(params, architecture, steps)


def trained(params, graphdef, state):
    """The weights of the last epoch."""
    weights = {}
    for event in fit(state, graphdef, data(), params):
        if isinstance(event, EpochEnd):
            weights = weights_of(event.model)
    return weights


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"weight_decay": 0.1},
        {"ema_decay": 0.9, "accumulate": 2},
        {"optimizer": "muon", "on_nan": "skip", "clip_norm": 1.0},
        {"optimizer": "lamb", "precision": "bfloat16", "schedule": "plateau"},
    ],
)
def test_frozen_weights_and_statistics_keep_their_bits(params, changes):
    changes = {"freeze": ("conv", "norm"), **changes}
    params, graphdef, state = start(params, stateful(), **changes)
    before = weights_of(nnx.merge(graphdef, state).model)
    after = trained(params, graphdef, state)
    assert before.keys() == after.keys()
    for name in before:
        assert np.array_equal(before[name], after[name]) == (name in FROZEN), name


class ExplicitNet(StatefulNet):
    """Names the mode of its normalization, as a call of Flax's may."""

    def __call__(self, images, rngs=None):
        hidden = self.conv(self.normalize(images))
        hidden = self.norm(hidden, use_running_average=rngs is None)
        return self.output(hidden.reshape(images.shape[0], -1))


def test_statistics_that_a_call_would_update_stay_frozen(params, monkeypatch):
    monkeypatch.setitem(MODELS, "stateful", ExplicitNet)
    params, graphdef, state = start(params, stateful(), freeze=("conv", "norm"))
    before = weights_of(nnx.merge(graphdef, state).model)
    after = trained(params, graphdef, state)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"output.kernel", "output.bias"}


def test_frozen_weights_have_no_optimizer_state(params):
    _, _, state = start(params, SMALL, freeze=("dense",))
    shapes = [leaf.shape for leaf in jax.tree.leaves(state["optimizer"])]
    assert (64, 16) not in shapes
    assert shapes.count((16, 3)) == 2  # adamw's two moments of the other kernel


def test_other_layers_train_as_if_the_frozen_ones_were_constants(params):
    """Two steps of SGD, against the softmax regression on the frozen features."""
    changes = {"optimizer": "sgd", "schedule": "constant", "lr": 0.1, "dropout": 0.0}
    changes |= {"freeze": ("dense",), "epochs": 1, "max_steps": 2, "weight_decay": 0.0}
    architecture = replace(SMALL, dropout=0.0)
    params, graphdef, state = start(params, architecture, **changes)
    before = weights_of(nnx.merge(graphdef, state).model)
    kernel, bias = before["output.kernel"], before["output.bias"]
    images, labels = patterned(100, seed=1)
    for rows in epoch_order(labels, params.batch_size, params.seed, 1, 0.0)[:2]:
        pixels = np.asarray(images)[rows].reshape(len(rows), -1) / 255
        hidden = pixels @ before["dense.kernel"] + before["dense.bias"]
        hidden = np.maximum(hidden, 0)
        scores = np.exp(hidden @ kernel + bias)
        error = scores / scores.sum(1, keepdims=True)
        error[np.arange(len(rows)), np.asarray(labels)[rows]] -= 1
        kernel = kernel - 0.1 * hidden.T @ error / len(rows)
        bias = bias - 0.1 * error.mean(0)
    after = trained(params, graphdef, state)
    np.testing.assert_allclose(after["output.kernel"], kernel, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after["output.bias"], bias, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_run_with_frozen_layers_resumes_with_the_same_bits(params, tmp_path):
    changes = {"freeze": ("conv", "norm"), "ema_decay": 0.9, "epochs": 3}
    params, graphdef, state = start(params, stateful(0.2), **changes)
    folder = SnapshotFolder(tmp_path)
    expected = {}
    for event in fit(state, graphdef, data(), params):
        if isinstance(event, SavePoint) and event.position.epoch == 2:
            progress = TrainingProgress(build_early_stopping(params))
            progress.position = event.position
            folder.add(arrays_of(event.state), progress, {})
        elif isinstance(event, EpochEnd):
            expected = weights_of(event.model)
    _, _, template = start(params, stateful(0.2), **changes)
    snapshot = folder.find_newest(template).snapshot
    position = snapshot.progress.position
    for event in fit(snapshot.state, graphdef, data(), params, position):
        if isinstance(event, EpochEnd):
            resumed = weights_of(event.model)
    for name, array in expected.items():
        np.testing.assert_array_equal(resumed[name], array, err_msg=name)


def test_unknown_layer_is_refused_before_training(params):
    with pytest.raises(ParameterError, match=r"'denes'\. Did you mean 'dense'"):
        start(params, SMALL, freeze=("denes",))


SEVERAL = """
from tests.helpers.device_runs import prepared_run
import json
import numpy as np
from flax import nnx
from src.models.build import MODELS
from src.models.checkpoint import weights_of
from src.sharding import on_all_devices, shard_state
from src.training.events import EpochEnd
from src.training.loop import fit
from src.training.state import build_state
from tests.helpers.stateful import StatefulNet, stateful
MODELS["stateful"] = StatefulNet
changes = {"freeze": ("conv", "norm"), "epochs": 2, "ema_decay": 0.9}
params, *_ = prepared_run({})
with on_all_devices(params):
    _, data, *_ = prepared_run({})
    params = params.model_copy(update=changes)
    graphdef, state = build_state(params, stateful(), 10)
    before = weights_of(nnx.merge(graphdef, state).model)
    for event in fit(shard_state(state), graphdef, data, params):
        if isinstance(event, EpochEnd):
            after = weights_of(event.model)
same = [name for name in before if np.array_equal(before[name], after[name])]
print(json.dumps(same))
"""


@pytest.mark.slow
def test_frozen_weights_keep_their_bits_on_three_devices(run_source):
    flags = "--xla_force_host_platform_device_count=3"
    result = run_source(SEVERAL, XLA_FLAGS=flags)
    assert result.returncode == 0, result.stderr
    assert set(json.loads(result.stdout.splitlines()[-1])) == FROZEN
