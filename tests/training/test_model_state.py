"""State other than parameters against an uncompiled loop of NNX and Optax calls."""

import json
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from src.data.examples import Examples
from src.data.prepared import load_manifest
from src.evaluation.predict import predict
from src.experiments.lr_range import rising_losses
from src.models.build import MODELS, build_model
from src.models.checkpoint import load_trained, save_trained, weights_of
from src.models.microbatch import in_slices
from src.training.batches import DeviceBatches, StreamedBatches
from src.training.data import TrainData, epoch_order
from src.training.events import EpochEnd, LogRow, SavePoint
from src.training.loop import fit
from src.training.state import build_state
from tests.helpers.examples import patterned
from tests.helpers.files import committed
from tests.helpers.stateful import StatefulNet, stateful

COUNT, BATCH, RATE = 100, 16, 0.05
SGD = optax.sgd(RATE)
ADAMW = optax.adamw(
    RATE,
    weight_decay=0.1,
    mask=lambda weights: jax.tree.map(lambda weight: weight.ndim > 1, weights),
)
CHANGES = {
    "model": "stateful",
    "optimizer": "sgd",
    "schedule": "constant",
    "lr": RATE,
    "weight_decay": 0.0,
    "batch_size": BATCH,
    "epochs": 2,
    "log_every": 2,
}


@pytest.fixture(autouse=True)
def named(monkeypatch):
    monkeypatch.setitem(MODELS, "stateful", StatefulNet)


def splits(batch=BATCH):
    return patterned(COUNT, seed=1), patterned(30, seed=2)


def start(params, dropout=0.0, **changes):
    params = params.model_copy(update={**CHANGES, **changes})
    steps = COUNT // params.batch_size
    return params, *build_state(params, stateful(dropout), steps)


def trained(params, dropout=0.0, source=DeviceBatches, given=None, **changes):
    """Weights and validation loss after each epoch, and copies of all save points."""
    params, graphdef, state = start(params, dropout, **changes)
    data = TrainData(*map(source, given or splits()), classes=3)
    return list(followed(fit(state, graphdef, data, params)))


def followed(events):
    for event in events:
        if isinstance(event, EpochEnd):
            yield weights_of(event.model), event.result.validation.loss
        elif isinstance(event, SavePoint):
            yield jax.tree.map(jnp.copy, event.state), event.position


def epochs(found):
    return [(first, loss) for first, loss in found if isinstance(first, dict)]


def mean_loss(model, images, labels):
    logits = model(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# Compiled as a whole: otherwise JAX compiles each operation by itself.
@nnx.jit
def gradients(model, images, labels):
    return nnx.grad(mean_loss)(model, images, labels)


@nnx.jit
def update(optimizer, model, grads):
    optimizer.update(model, grads)


def by_hand(params, accumulate=1, decay=None, bad=(), batch=BATCH, rule=SGD):
    """The same run in Flax's and Optax's own calls, one after another."""
    _, graphdef, state = start(params, ema_decay=0.0)
    model = nnx.merge(graphdef, state).model
    model.train()
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
    average = {name: np.float64(array) for name, array in weights_of(model).items()}
    (images, labels), validation = splits()
    step = 0
    for epoch in (1, 2):
        for rows in epoch_order(labels, batch, params.seed, epoch, 0.0):
            step += 1
            before = jax.tree.map(jnp.copy, nnx.state(model))
            total = None
            for part in np.split(rows, accumulate):
                grads = gradients(model, images[part], labels[part])
                total = grads if total is None else jax.tree.map(jnp.add, total, grads)
            if set(rows) & set(bad):
                nnx.update(model, before)
            else:
                mean = jax.tree.map(lambda sum: sum / accumulate, total)
                update(optimizer, model, mean)
                share = min(decay or 0.0, (1 + step) / (10 + step))
                for name, array in weights_of(model).items():
                    average[name] = share * average[name] + (1 - share) * array
        shown = nnx.clone(model)
        nnx.update(shown, arranged(shown, average))
        shown.eval()
        yield weights_of(shown), float(mean_loss(shown, *validation))


def arranged(model, arrays):
    """The state with the arrays, which are named by dotted path."""
    return nnx.from_flat_state(
        (path, leaf.replace(jnp.float32(arrays[".".join(path)])))
        for path, leaf in nnx.to_flat_state(nnx.state(model))
        if ".".join(path) in arrays
    )


def assert_equal(found, expected):
    for (weights, loss), (other, other_loss) in zip(found, expected, strict=True):
        assert set(weights) == set(other)
        for name, array in other.items():
            np.testing.assert_allclose(weights[name], array, rtol=1e-4, atol=1e-5)
        assert loss == pytest.approx(other_loss, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(
    ("changes", "reference"),
    [
        pytest.param({}, {}, marks=pytest.mark.slow),
        pytest.param({"accumulate": 2}, {"accumulate": 2}, marks=pytest.mark.slow),
        pytest.param({"ema_decay": 0.8}, {"decay": 0.8}, marks=pytest.mark.slow),
        ({"accumulate": 4, "ema_decay": 0.8}, {"accumulate": 4, "decay": 0.8}),
        pytest.param({"on_nan": "skip"}, {}, marks=pytest.mark.slow),
        ({"optimizer": "adamw", "weight_decay": 0.1}, {"rule": ADAMW}),
    ],
)
def test_training_gives_the_weights_and_statistics_of_plain_calls(
    params, changes, reference
):
    found = epochs(trained(params, **changes))
    assert {"norm.mean", "norm.var", "norm.scale"} <= set(found[0][0])
    assert_equal(found, list(by_hand(params, **reference)))


def test_skipped_step_restores_the_statistics(params):
    train, validation = splits()
    bad = [3]  # a label that is no class gives a loss of NaN
    labels = train.labels.copy()
    labels[bad] = 9
    given = Examples(train.images, labels), validation
    found = epochs(trained(params, given=given, on_nan="skip"))
    assert_equal(found, list(by_hand(params, bad=bad)))


def test_reruns_and_resumed_runs_have_the_bits_of_the_first(params):
    changes = {
        "ema_decay": 0.8,
        "accumulate": 2,
        "on_nan": "skip",
        "augment": ("flip",),
    }
    first, again = (trained(params, dropout=0.3, **changes) for _ in range(2))
    (last, loss), (other, other_loss) = epochs(first)[-1], epochs(again)[-1]
    assert loss == other_loss
    assert all(np.array_equal(last[name], other[name]) for name in last)
    changed, graphdef, _ = start(params, 0.3, **changes)
    saves = [save for save in first if not isinstance(save[0], dict)]
    data = TrainData(*map(StreamedBatches, splits()), classes=3)
    for state, position in (saves[0], saves[-1]):
        resumed = epochs(followed(fit(state, graphdef, data, changed, position)))
        assert all(np.array_equal(last[name], resumed[-1][0][name]) for name in last)


@pytest.mark.slow
def test_stream_of_a_dropout_layer_follows_seed_and_step(params):
    """Without learning, only the masks make the losses of equal batches differ."""
    train, validation = splits()
    same = Examples(
        np.repeat(train.images[:1], COUNT, 0), np.repeat(train.labels[:1], COUNT)
    )
    data = TrainData(*map(DeviceBatches, (same, validation)), classes=3)
    rows = {}
    for seed in (0, 0, 1):
        changed, graphdef, state = start(
            params, 0.5, lr=1e-30, seed=seed, log_every=1, epochs=1
        )
        events = fit(state, graphdef, data, changed)
        losses = [event.train.loss for event in events if isinstance(event, LogRow)]
        assert len(set(losses)) == len(losses)
        assert rows.setdefault(seed, losses) == losses
    assert rows[0] != rows[1]


def test_batch_that_would_be_sliced_is_normalized_as_a_whole(params):
    architecture = stateful()
    model = build_model(architecture, nnx.Rngs(0))
    plain = nnx.clone(model)
    images = jnp.asarray(patterned(96, seed=0).images)
    found = nnx.jit(lambda model, images: model(images))(model, images)
    pixels = images / jnp.float32(255)
    expected = plain.output(plain.features(pixels).reshape(96, -1))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.norm.mean[...], plain.norm.mean[...], rtol=1e-5)


def test_function_that_hides_statistics_from_slices_is_refused():
    model = build_model(stateful(), nnx.Rngs(0))
    hidden = lambda pixels: model.features(pixels)  # noqa: E731
    with pytest.raises(ValueError, match=r"expected a method .* changes state"):
        nnx.jit(lambda model: in_slices(hidden, jnp.ones((96, 8, 8, 1))))(model)


def test_trained_model_is_read_back_with_its_statistics_in_eval_mode(
    params, prepared, monkeypatch
):
    manifest = load_manifest()
    # In model.json, a name that the parameters allow.
    monkeypatch.setitem(MODELS, "mlp", StatefulNet)
    architecture = replace(stateful(dropout=0.5), model="mlp")
    weights, _ = epochs(trained(params, dropout=0.5))[-1]
    assert not any(re.search("rngs|key|count", name) for name in weights)
    record = {"class_names": manifest.class_names, "history_sha256": "0", "epoch": 1}
    committed(save_trained, weights, architecture, record)
    model = load_trained(manifest).model
    images, _ = splits()[1]
    hidden = forward_by_hand(weights, images)
    np.testing.assert_allclose(predict(model, images), hidden, rtol=1e-3, atol=1e-4)
    for name, array in weights_of(model).items():
        np.testing.assert_array_equal(array, weights[name])


def forward_by_hand(weights, images):
    """Log-probabilities in eval mode, from the formulas alone."""
    pixels = images / np.float32(255)
    hidden = jax.lax.conv_general_dilated(
        pixels,
        weights["conv.kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    hidden = np.asarray(hidden)
    scale = weights["norm.scale"] / np.sqrt(weights["norm.var"] + 1e-5)
    hidden = (hidden - weights["norm.mean"]) * scale + weights["norm.bias"]
    hidden = np.maximum(hidden, 0).reshape(len(images), -1)
    logits = hidden @ weights["output.kernel"] + weights["output.bias"]
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


SEVERAL = """
import json
from tests.helpers.device_runs import prepared_run, splits
import jax.numpy as jnp
from flax import nnx
from src.models.build import MODELS
from src.models.checkpoint import weights_of
from src.sharding import on_all_devices
from src.training.events import EpochEnd, LogRow
from src.training.loop import fit
from tests.helpers.stateful import BiasedNet
MODELS["stateful"] = BiasedNet
changes = {"model": "stateful", "optimizer": "adamw", "dropout": 0.0, "epochs": 4}
params, *_ = prepared_run({})
with on_all_devices(params):
    params, data, graphdef, state = prepared_run(changes)
    losses = []
    for event in fit(state, graphdef, data, params):
        if isinstance(event, LogRow):
            losses.append(event.train.loss)
        elif isinstance(event, EpochEnd):
            found = dict(weights_of(event.model))
            logits = event.model(jnp.asarray(splits()[1].images))
            found["probabilities"] = nnx.softmax(logits)
found["losses"] = jnp.array(losses)
print(json.dumps({name: array.tolist() for name, array in found.items()}))
"""


@pytest.mark.slow
def test_bias_before_a_batch_norm_is_all_that_depends_on_the_devices(run_source):
    """Its gradient is 0 but for rounding, which AdamW scales up to the learning rate.

    The running mean follows it, a few steps late, so that answers differ a little.
    """
    results = []
    for devices in (1, 2):
        flags = f"--xla_force_host_platform_device_count={devices}"
        result = run_source(SEVERAL, XLA_FLAGS=flags)
        assert result.returncode == 0, result.stderr
        results.append(json.loads(result.stdout.splitlines()[-1]))
    one, two = results
    noise = {"conv.bias": 0.1, "norm.mean": 0.1, "probabilities": 0.01}
    assert noise.keys() < one.keys() == two.keys()
    assert one["brightness"] > 0.1
    for name, array in one.items():
        allowed = noise.get(name, 2e-6)
        np.testing.assert_allclose(two[name], array, atol=allowed, err_msg=name)
    assert np.abs(np.subtract(one["conv.bias"], two["conv.bias"])).max() > 1e-4


@pytest.mark.slow
def test_debugging_shows_the_layers_and_changes_no_bit(params, capsys):
    plain = epochs(trained(params, dropout=0.3, epochs=1))[-1]
    watched = epochs(trained(params, dropout=0.3, epochs=1, debug=True))[-1]
    assert "BatchNorm" in capsys.readouterr().out
    assert all(np.array_equal(plain[0][name], watched[0][name]) for name in plain[0])


def test_learning_rate_range_test_trains_a_model_with_statistics(params):
    changed = params.model_copy(update={**CHANGES, "lr_range_steps": 10})
    found = rising_losses(DeviceBatches(splits()[0]), stateful(0.3), changed)
    assert np.isfinite([loss for _, loss in found]).all()
