"""`debug: true` on deliberately broken models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from src.data.examples import Batch, Examples
from src.errors import DivergedError
from src.models.architecture import Architecture
from src.models.build import build_model
from src.models.mlp import MLP
from src.training.chunk import run_chunk
from src.training.debug import health_table, layer_table, run_chunk_watched
from src.training.losses import cross_entropy
from src.training.state import build_state
from tests.helpers.examples import patterned
from tests.helpers.steps import run_steps
from tests.helpers.training import TINY

SPLIT = Examples(*map(jnp.asarray, patterned(64, seed=0)))
INDICES = jnp.arange(64, dtype=jnp.int32).reshape(4, 16)


def watch(params, **changes):
    changes |= {"schedule": "constant", "batch_size": 16}
    params = params.model_copy(update=changes)
    graphdef, state = build_state(params, TINY, steps_per_epoch=4)
    return run_steps(
        state,
        SPLIT,
        INDICES,
        0,
        4,
        run=run_chunk_watched,
        graphdef=graphdef,
        params=params,
    )


@pytest.mark.slow
def test_first_nan_operation_is_named_with_its_line(params):
    with pytest.raises(DivergedError) as caught:
        watch(params, optimizer="sgd", lr=1e36)
    message = str(caught.value)
    assert message.startswith("step 2: expected finite numbers, found the first NaN")
    assert "src/models/mlp.py, line " in message
    assert "in __call__: return self.output(hidden): invalid" in message


@pytest.mark.slow
def test_nan_of_the_backward_pass_names_the_forward_operation(params, monkeypatch):
    def broken(self, images, rngs=None):
        logits = original(self, images, rngs)
        # The value of the root is finite; its gradient at 0 is not.
        return logits + jnp.sqrt(jnp.abs(0 * logits))

    original = MLP.__call__
    monkeypatch.setattr(MLP, "__call__", broken)
    with pytest.raises(DivergedError) as caught:
        watch(params, optimizer="sgd", lr=0.123)
    message = str(caught.value)
    assert message.startswith("step 1: expected finite numbers, found the first NaN in")
    assert "invalid value (nan) encountered in mul" in message


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 4])
def test_loss_scale_overflow_is_not_an_error(params, stop):
    changes = {"precision": "float16", "schedule": "constant", "batch_size": 16}
    params = params.model_copy(update=changes)
    graphdef, state = build_state(params, TINY, steps_per_epoch=4)
    train_state = nnx.merge(graphdef, state)
    train_state.loss_scaler.scale[...] = jnp.float32(2.0**60)
    found = [
        run_steps(
            jax.tree.map(jnp.copy, nnx.state(train_state)),
            *(SPLIT, INDICES, 0, stop),
            run=run,
            graphdef=graphdef,
            params=params,
        )
        for run in (run_chunk, run_chunk_watched)
    ]
    assert int(found[0][1].skips.total) == stop
    jax.tree.map(np.testing.assert_array_equal, *map(jax.device_get, found))


@pytest.mark.slow
def test_overflow_without_nan_is_left_to_the_caller(params, monkeypatch):
    def steep(logits, batch, smoothing):
        del smoothing
        return cross_entropy(logits, batch.labels, 0.0) * 1e25

    monkeypatch.setattr("src.training.step.batch_losses", steep)
    changes = {"on_nan": "skip", "optimizer": "sgd", "lr": 0.0123}
    params = params.model_copy(update={**changes, "schedule": "constant"})
    found = []
    for run in (run_chunk, run_chunk_watched):
        graphdef, state = build_state(params, TINY, steps_per_epoch=4)
        found.append(
            run_steps(
                state, SPLIT, INDICES, 0, 4, run=run, graphdef=graphdef, params=params
            )
        )
    assert int(found[0][1].skips.total) == 4
    jax.tree.map(np.testing.assert_array_equal, *map(jax.device_get, found))


@pytest.mark.slow
def test_skipped_step_is_explained_too(params):
    with pytest.raises(DivergedError, match=r"found the first NaN in src/"):
        watch(params, optimizer="sgd", lr=1e36, on_nan="skip")


def test_layers_are_listed_with_their_shapes(params):
    graphdef, state = build_state(params, TINY, steps_per_epoch=4)
    table = layer_table(nnx.merge(graphdef, state).model, SPLIT)
    for expected in ("dense", "kernel: float32[64,5]", "float32[1,3]", "343"):
        assert expected in table


@pytest.mark.parametrize("model", ["cnn", "cnn_max"])
def test_layers_of_convolutional_models_are_listed(model):
    architecture = Architecture(model, 8, 0.0, image_shape=(8, 8, 1), classes=3)
    table = layer_table(build_model(architecture, nnx.Rngs(params=0)), SPLIT)
    assert "conv2" in table
    assert "kernel: float32[3,3,32,64]" in table


def test_health_gives_norms_by_numpy_and_counts_dead_units(params):
    graphdef, state = build_state(params, TINY, steps_per_epoch=4)
    model = nnx.merge(graphdef, state).model
    # Two units that are 0 for every image.
    bias = jnp.array([0.0, -1e6, 0.0, -1e6, 0.0])
    model.dense.bias[...] = bias
    lines = health_table(model, Batch(*SPLIT)).splitlines()
    rows = {line.split()[0]: line for line in lines[1:]}
    assert rows["dense.bias"].endswith("2 of 5")
    assert f"{np.linalg.norm(bias):.4g}" in rows["dense.bias"]
    kernel = np.asarray(model.output.kernel[...])
    assert f"{np.linalg.norm(kernel):.4g}" in rows["output.kernel"]
    losses = jax.grad(
        lambda kernel: (
            -jnp.mean(
                jax.nn.log_softmax(hidden(model, SPLIT.images) @ kernel)[
                    jnp.arange(64), SPLIT.labels
                ]
            )
        )
    )(jnp.asarray(kernel))
    assert f"{np.linalg.norm(losses):.3g}" in rows["output.kernel"]


def test_columns_of_the_health_table_are_apart_and_aligned():
    class Deep(nnx.Module):
        def __init__(self):
            layer = nnx.Linear(64, 3, rngs=nnx.Rngs(0))
            self.first_block_of_many = nnx.Dict({"dense_layer": layer})

        def __call__(self, images):
            pixels = images.reshape(len(images), -1) / jnp.float32(255)
            return self.first_block_of_many["dense_layer"](pixels)

    lines = health_table(Deep(), Batch(*SPLIT)).splitlines()
    assert lines[1].split()[:2] == ["first_block_of_many.dense_layer.bias", "(3,)"]
    starts = {line.index("(") for line in lines[1:]}
    assert starts == {lines[0].index("shape")}


def hidden(model, images):
    """The dense layer by hand; the initial output bias is 0."""
    pixels = images.reshape(len(images), -1) / 255.0
    before = pixels @ model.dense.kernel[...] + model.dense.bias[...][None]
    return jnp.maximum(before, 0)
