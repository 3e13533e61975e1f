"""Augmentations that mix each image and its label with another of the batch."""

import jax
import jax.numpy as jnp

from src.data.examples import Batch


def mix_up(batch: Batch, key: jax.Array, alpha: float) -> Batch:
    """Mixes each image and its loss with its neighbour in the batch.

    The batch is shuffled, so a neighbour is a random example. The whole batch shares
    one draw from Beta(alpha, alpha). The image itself gets the larger share, so that
    training accuracy stays meaningful.

    Source: Zhang et al. 2018, arXiv:1710.09412, eq. 1.
    """
    drawn = jax.random.beta(key, alpha, alpha)
    share = jnp.maximum(drawn, 1 - drawn)
    images = batch.images.astype(jnp.float32)
    mixed = share * images + (1 - share) * jnp.roll(images, 1, axis=0)
    return Batch(
        images=jnp.round(mixed).astype(jnp.uint8),
        labels=batch.labels,
        partners=jnp.roll(batch.labels, 1),
        shares=jnp.full(batch.labels.shape, share, jnp.float32),
    )
