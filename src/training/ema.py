"""A running average of the weights, often a better network than the last one.

Source: Polyak and Juditsky 1992; the exponential form and its warm-up as in
`tf.train.ExponentialMovingAverage` with `num_updates`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from src.models.build import Model


def update_ema(average: Model, model: Model, decay: float, step: jax.Array) -> None:
    """Moves the average towards the weights: a <- d a + (1 - d) w.

    The first steps count for more, d = min(decay, (1 + step) / (10 + step)): else the
    random first weights would stay in the average for 1 / (1 - decay) steps.

    Args:
        average: changed in place.
        model: whose weights it follows.
        decay: in (0, 1).
        step: how many steps were taken, from 1.
    """
    share = jnp.minimum(decay, (1 + step) / (10 + step)).astype(jnp.float32)
    moved = jax.tree.map(
        lambda mean, weight: share * mean + (1 - share) * weight,
        nnx.state(average, nnx.Param),
        nnx.state(model, nnx.Param),
    )
    nnx.update(average, moved)
