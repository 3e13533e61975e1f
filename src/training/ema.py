"""Exponential moving average (EMA) of the weights.

Source: Polyak and Juditsky 1992; exponential form and warm-up as in
`tf.train.ExponentialMovingAverage` with `num_updates`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from src.models.build import Model


def update_ema(ema: Model, model: Model, decay: float, step: jax.Array) -> None:
    """Updates the average: ema <- d ema + (1 - d) weights.

    Warm-up: d = min(decay, (1 + step) / (10 + step)). Without it the initial weights
    would dominate the average for 1 / (1 - decay) steps.

    Args:
        ema: the averaged weights, updated in place.
        model: the current weights.
        decay: in (0, 1).
        step: steps taken, from 1.
    """
    warm_decay = jnp.minimum(decay, (1 + step) / (10 + step)).astype(jnp.float32)
    averaged = jax.tree.map(
        lambda mean, weight: warm_decay * mean + (1 - warm_decay) * weight,
        nnx.state(ema, nnx.Param),
        nnx.state(model, nnx.Param),
    )
    nnx.update(ema, averaged)
