"""Augmentations that change colours."""

import jax
import jax.numpy as jnp

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601


def vary_colours(images: jax.Array, key: jax.Array, strength: float) -> jax.Array:
    """Changes brightness, contrast and saturation, in this order, by random factors.

    Each factor is uniform in [1 - strength, 1 + strength], as in torchvision's
    `ColorJitter`. Grey images have no saturation to change.

    Args:
        images: uint8 `[batch, height, width, channels]`.
        key: a random key.
        strength: in (0, 1].
    """
    shape = (3, images.shape[0], 1, 1, 1)
    brightness, contrast, saturation = jax.random.uniform(
        key, shape, minval=1 - strength, maxval=1 + strength
    )
    varied = adjust_brightness(images.astype(jnp.float32), brightness)
    varied = adjust_contrast(varied, contrast)
    varied = adjust_saturation(varied, saturation)
    return jnp.round(varied).astype(jnp.uint8)


def adjust_brightness(images: jax.Array, factors: jax.Array) -> jax.Array:
    """Multiplies the pixels: factor 0 is black, 1 the image.

    Args:
        images: float32 `[..., height, width, channels]` in [0, 255], as the result.
        factors: >= 0, one for each image, with the rank of the images.
    """
    return jnp.clip(images * factors, 0, 255)


def adjust_contrast(images: jax.Array, factors: jax.Array) -> jax.Array:
    """Scales the distance from the mean brightness: factor 0 is even grey.

    Arguments as in `adjust_brightness`.
    """
    mean = luma(images).mean((-3, -2, -1), keepdims=True)
    return jnp.clip(mean + (images - mean) * factors, 0, 255)


def adjust_saturation(images: jax.Array, factors: jax.Array) -> jax.Array:
    """Scales the distance of each pixel from grey: factor 0 is a grey image.

    Arguments as in `adjust_brightness`.
    """
    grey = luma(images)
    return jnp.clip(grey + (images - grey) * factors, 0, 255)


def luma(images: jax.Array) -> jax.Array:
    """The brightness of each pixel, `[..., height, width, 1]`."""
    if images.shape[-1] != len(LUMA):
        return images.mean(-1, keepdims=True)
    red, green, blue = (images[..., channel, None] for channel in range(3))
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
