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


def cut_mix(batch: Batch, key: jax.Array, alpha: float) -> Batch:
    """Pastes a rectangle of its neighbour in the batch into each image.

    The area comes from Beta(alpha, alpha). A rectangle that reaches beyond the image is
    clipped; the neighbour's share is the exact area that remains. Of the two labels,
    `labels` has the one with the larger share, so that training accuracy stays
    meaningful.

    Source: Yun et al. 2019, arXiv:1905.04899, section 3.1 and the authors' code. There
    the whole batch shares one rectangle; here each image has its own.
    """
    count, height, width, _ = batch.images.shape
    area_key, row_key, column_key = jax.random.split(key, 3)
    side = jnp.sqrt(jax.random.beta(area_key, alpha, alpha, (count,)))
    rows = random_spans(row_key, side, height)
    columns = random_spans(column_key, side, width)
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    area = (rows.sum(1) * columns.sum(1)) / (height * width)
    labels, others = batch.labels, jnp.roll(batch.labels, 1)
    return Batch(
        images=jnp.where(inside, jnp.roll(batch.images, 1, axis=0), batch.images),
        labels=jnp.where(area <= 0.5, labels, others),
        partners=jnp.where(area <= 0.5, others, labels),
        shares=jnp.maximum(area, 1 - area),
    )


def random_spans(key: jax.Array, lengths: jax.Array, size: int) -> jax.Array:
    """Masks of spans of pixels with random centres: bool `[n, size]`.

    Args:
        key: a random key.
        lengths: of the spans, float32 `[n]`, as fractions of `size`.
        size: pixels.
    """
    half = jnp.floor(lengths * size)[:, None] // 2
    centre = jax.random.randint(key, half.shape, 0, size)
    pixel = jnp.arange(size)[None]
    return (pixel >= centre - half) & (pixel < centre + half)
