"""TrivialAugment: one random operation per image, at a random strength."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from src.sharding import BY_BATCH, device_count
from src.training.augment_operations import COLOUR_OPERATIONS, GREY_OPERATIONS

STRENGTHS = 31  # equally spaced, from no change on


def trivial_augment(images: jax.Array, key: jax.Array) -> jax.Array:
    """Changes each image by one operation of the "wide" set, at a random strength.

    As torchvision's `TrivialAugmentWide`, except that translations are at most half of
    the image. Grey images leave out saturation.

    Source: Müller and Hutter 2021, arXiv:2103.10158, table 1.

    Args:
        images: uint8 `[batch, height, width, channels]`.
        key: a random key.
    """
    operations = COLOUR_OPERATIONS if images.shape[3] == 3 else GREY_OPERATIONS
    which, strengths = random_choices(key, len(images), len(operations))

    def change(image: jax.Array, which: jax.Array, strength: jax.Array) -> jax.Array:
        changed: jax.Array = lax.switch(which, operations, image, strength)
        return changed

    return each_image(change, images, which, strengths)


def random_choices(
    key: jax.Array, images: int, operations: int
) -> tuple[jax.Array, jax.Array]:
    """An operation and its strength for each image.

    Returns:
        int32 `[images]` in [0, operations), and float32 `[images]` in [-1, 1].
    """
    which_key, strength_key, sign_key = jax.random.split(key, 3)
    which = jax.random.randint(which_key, (images,), 0, operations)
    levels = jax.random.randint(strength_key, (images,), 0, STRENGTHS)
    signs = jax.random.rademacher(sign_key, (images,), jnp.float32)
    return which, signs * levels / (STRENGTHS - 1)


def each_image(
    function: Callable[..., jax.Array], images: jax.Array, *arguments: jax.Array
) -> jax.Array:
    """Applies `function` to each image and its arguments; no device moves an image.

    On CPU images are processed one by one, so that a switch computes one branch per
    image: 1 ms instead of 16 for 32 images of 64 x 64 pixels. A GPU computes all
    branches for all images at once.
    """
    one_by_one = jax.default_backend() == "cpu"

    def run(*arrays: jax.Array) -> jax.Array:
        if one_by_one:
            changed: jax.Array = lax.map(lambda each: function(*each), arrays)
            return changed
        return jax.vmap(function)(*arrays)

    if device_count() == 1:
        return run(images, *arguments)
    mapped: jax.Array = jax.shard_map(
        run, in_specs=(BY_BATCH,) * (1 + len(arguments)), out_specs=BY_BATCH
    )(images, *arguments)
    return mapped
