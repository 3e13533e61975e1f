"""Data augmentation: a pure function of the images and a key."""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from src.config.params import Params
from src.data.examples import Batch, Examples


def augment(examples: Examples, key: jax.Array, params: Params) -> Batch:
    """Applies the augmentations that `augment` lists, in the order of the list.

    Args:
        examples: the batch of one step.
        key: the key of the step; each augmentation folds its own number into it.
        params: which augmentations, and how strong.
    """
    batch = Batch(*examples)
    flip_key, shift_key, rotation_key, cutout_key, mixup_key = (
        jax.random.fold_in(key, stream) for stream in range(5)
    )
    # Overfitting a few batches is a check of the model: it needs fixed images.
    for name in () if params.overfit_batches else params.augment:
        images = batch.images
        match name:
            case "flip":
                batch = batch._replace(images=flip(images, flip_key))
            case "shift":
                moved = shift(images, shift_key, params.shift_pixels)
                batch = batch._replace(images=moved)
            case "rotation":
                turned = rotate(images, rotation_key, params.rotation_degrees)
                batch = batch._replace(images=turned)
            case "cutout":
                cut = cut_out(images, cutout_key, params.cutout_pixels)
                batch = batch._replace(images=cut)
            case "mixup":
                batch = mix_up(batch, mixup_key, params.mixup_alpha)
    return batch


def flip(images: jax.Array, key: jax.Array) -> jax.Array:
    """Flips half of the images left to right."""
    chosen = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(chosen, images[:, :, ::-1], images)


def shift(images: jax.Array, key: jax.Array, pixels: int) -> jax.Array:
    """Shifts each image by up to `pixels` in both directions; fills with black."""
    batch, height, width, _ = images.shape
    edge = (pixels, pixels)
    padded = jnp.pad(images, ((0, 0), edge, edge, (0, 0)))
    corners = jax.random.randint(key, (batch, 2), 0, 2 * pixels + 1)
    rows = corners[:, :1] + jnp.arange(height)[None]
    columns = corners[:, 1:] + jnp.arange(width)[None]

    def look_up(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
        return image[rows[:, None], columns]

    # vmap, not indexing by batch: indexing would gather images across devices.
    moved: jax.Array = jax.vmap(look_up)(padded, rows, columns)
    return moved


def rotate(images: jax.Array, key: jax.Array, degrees: float) -> jax.Array:
    """Rotates each image about its centre by up to `degrees` either way.

    Interpolates linearly and fills with black.
    """
    batch, height, width, _ = images.shape
    angles = jnp.deg2rad(jax.random.uniform(key, (batch,), minval=-1) * degrees)
    middle = jnp.array([(height - 1) / 2, (width - 1) / 2])
    grid = jnp.indices((height, width)).astype(jnp.float32) - middle[:, None, None]

    def turn(image: jax.Array, angle: jax.Array) -> jax.Array:
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        rows = cosine * grid[0] - sine * grid[1] + middle[0]
        columns = sine * grid[0] + cosine * grid[1] + middle[1]
        places = [rows, columns]
        channels = jax.vmap(
            lambda channel: map_coordinates(channel, places, order=1, mode="constant"),
            in_axes=-1,
            out_axes=-1,
        )
        moved: jax.Array = channels(image)  # type: ignore[no-untyped-call]
        return moved

    turned = jax.vmap(turn)(images.astype(jnp.float32), angles)
    return jnp.round(turned).astype(jnp.uint8)


def cut_out(images: jax.Array, key: jax.Array, pixels: int) -> jax.Array:
    """Blackens a square of `pixels` a side, centred anywhere in the image.

    Source: DeVries and Taylor 2017, arXiv:1708.04552.
    """
    batch, height, width, _ = images.shape
    middles = jax.random.uniform(key, (2, batch, 1))
    first_row = jnp.floor(middles[0] * height) - pixels // 2
    first_column = jnp.floor(middles[1] * width) - pixels // 2
    row, column = jnp.arange(height)[None], jnp.arange(width)[None]
    rows = (row >= first_row) & (row < first_row + pixels)
    columns = (column >= first_column) & (column < first_column + pixels)
    inside = rows[:, :, None] & columns[:, None, :]
    return jnp.where(inside[..., None], jnp.uint8(0), images)


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
