"""Random streams that a model holds, as in `nnx.Dropout(rate, rngs=rngs)`.

Flax advances such a stream at every draw. Here every step sets it from the step's key,
so dropout stays a pure function of seed and step. Streams are not saved with the
trained model.
"""

import jax
import jax.numpy as jnp
from flax import nnx

# Folded into a step's key. `nnx.Rngs` folds small numbers, augmentation 1 << 31.
FIRST_STREAM = 1 << 30

# What a trained model keeps: weights and statistics.
SAVED = nnx.Not(nnx.RngState)


def build_rngs(key: jax.Array) -> nnx.Rngs:
    """The streams to build a model with: `params` for weights, `default` for others."""
    return nnx.Rngs(params=key, default=jax.random.fold_in(key, FIRST_STREAM))


def unwrap_keys(model: nnx.Module) -> None:
    """Replaces the keys of a model's streams by uint32 arrays, in place.

    JAX draws the same numbers from them, and they can be copied to the host.
    """
    keys = nnx.state(model, nnx.RngKey)
    nnx.update(model, jax.tree.map(jax.random.key_data, keys))


def reseed(model: nnx.Module, key: jax.Array) -> None:
    """Sets the streams of a model from a key, each to another one, in place.

    Args:
        model: its keys are uint32 arrays, see `unwrap_keys`.
        key: of the step.
    """
    state = nnx.state(model, nnx.RngState)
    fresh = [
        (path, variable.replace(jnp.zeros_like(variable[...])))
        if isinstance(variable, nnx.RngCount)
        else (path, variable.replace(stream_key(key, number, variable[...])))
        for number, (path, variable) in enumerate(nnx.to_flat_state(state))
    ]
    nnx.update(model, nnx.from_flat_state(fresh))


def stream_key(key: jax.Array, number: int, data: jax.Array) -> jax.Array:
    """The data of a stream's key.

    Args:
        key: of the step.
        number: of the stream.
        data: its data so far, uint32 `[..., 2]`: a stream may hold several keys.
    """
    folded = jax.random.fold_in(key, FIRST_STREAM + number)
    shape = data.shape[:-1]
    return jax.random.key_data(jax.random.split(folded, shape) if shape else folded)
