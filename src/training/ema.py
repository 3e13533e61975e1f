"""Exponential moving average (EMA) of the weights and of batch statistics.

As `nnx.EMA`, but with a warm-up.

Source: Polyak and Juditsky 1992; exponential form and warm-up as in
`tf.train.ExponentialMovingAverage` with `num_updates`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from src.models.build import Model

AVERAGED = nnx.Any(nnx.Param, nnx.BatchStat)


def update_ema(ema: Model, model: Model, decay: float, step: jax.Array) -> None:
    """Updates the average: ema <- d ema + (1 - d) value.

    Weights and statistics are averaged, as by `nnx.EMA`. Other state, such as counters,
    is copied.

    Warm-up: d = min(decay, (1 + step) / (10 + step)). Without it the initial weights
    would dominate the average for 1 / (1 - decay) steps.

    Args:
        ema: the averaged weights, updated in place.
        model: the current weights.
        decay: in (0, 1).
        step: steps taken, from 1.
    """
    warm_decay = jnp.minimum(decay, (1 + step) / (10 + step)).astype(jnp.float32)
    means, _ = nnx.split_state(nnx.state(ema), AVERAGED, ...)
    values, others = nnx.split_state(nnx.state(model), AVERAGED, ...)
    averaged = jax.tree.map(
        lambda mean, value: warm_decay * mean + (1 - warm_decay) * value, means, values
    )
    nnx.update(ema, averaged, others)
