"""Augmentations that move pixels."""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from src.training.boxes import Boxes, random_boxes


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


def crop(images: jax.Array, key: jax.Array, smallest: float) -> jax.Array:
    """Enlarges a random box of each image to the whole image, bilinearly.

    The box has an area in [smallest, 1] and an aspect ratio in [3/4, 4/3], as in
    torchvision's `RandomResizedCrop`.

    Source: Szegedy et al. 2015, arXiv:1409.4842, section 6.

    Args:
        images: uint8 `[batch, height, width, channels]`.
        key: a random key.
        smallest: the smallest area, as a fraction of the image, in (0, 1].
    """
    _, height, width, _ = images.shape
    boxes = random_boxes(key, images.shape, (smallest, 1.0), (3 / 4, 4 / 3))
    # Where no box fits: the largest in the middle whose aspect ratio is allowed.
    tall, wide = round(width * 4 / 3), round(height * 4 / 3)
    largest = (min(height, tall), min(width, wide))
    centred = ((height - largest[0]) // 2, (width - largest[1]) // 2, *largest)
    pairs = zip(boxes, centred, strict=True)
    boxes = Boxes(*(jnp.where(boxes.height > 0, *pair) for pair in pairs))
    return enlarge(images, boxes)


def enlarge(images: jax.Array, boxes: Boxes) -> jax.Array:
    """Each image's box, resized to the whole image with bilinear interpolation.

    Neighbours are looked up within the box only. Pixel centres are at half-integers, as
    in Pillow and torchvision.
    """
    _, height, width, _ = images.shape

    def look_up(image: jax.Array, box: Boxes) -> jax.Array:
        left, right, across = neighbours(box.left, box.width, width)
        above, below, down = neighbours(box.top, box.height, height)
        across, down = across[None, :, None], down[:, None, None]
        # Columns first: pixels are looked up faster in bytes than in floats.
        first, second = (image[:, at].astype(jnp.float32) for at in (left, right))
        wide = first + (second - first) * across
        first, second = wide[above], wide[below]
        enlarged: jax.Array = first + (second - first) * down
        return enlarged

    # vmap, as in shift. Products with matrices of weights are slower for large images.
    enlarged: jax.Array = jax.vmap(look_up)(images, boxes)
    return jnp.round(enlarged).astype(jnp.uint8)


def neighbours(
    first: jax.Array, count: jax.Array, size: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Neighbours and weights that resize `count` pixels to `size`, in one direction.

    Args:
        first: the first of the pixels, int32 ().
        count: how many pixels, int32 ().
        size: how many pixels the result has.

    Returns:
        Indices of the pixel before and after, int32 `[size]`, and the weight of the
        one after, float32 `[size]`.
    """
    centres = (jnp.arange(size, dtype=jnp.float32) + 0.5) * (count / size) - 0.5
    places = jnp.clip(centres, 0, (count - 1).astype(jnp.float32))
    before = jnp.floor(places).astype(jnp.int32)
    after = jnp.minimum(before + 1, count - 1)
    return first + before, first + after, places - before.astype(jnp.float32)
