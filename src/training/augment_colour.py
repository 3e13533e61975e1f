"""Random brightness, contrast and saturation."""

import jax
import jax.numpy as jnp

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601


def vary_colours(images: jax.Array, key: jax.Array, strength: float) -> jax.Array:
    """Changes brightness, contrast and saturation of each image by random factors.

    Each factor is uniform in [1 - strength, 1 + strength], as in torchvision's
    `ColorJitter`.

    Args:
        images: uint8 `[batch, height, width, channels]`.
        key: a random key.
        strength: in (0, 1].
    """
    shape = (3, images.shape[0])
    low, high = 1 - strength, 1 + strength
    factors = jax.random.uniform(key, shape, minval=low, maxval=high)
    return adjust_colours(images, *factors)


def adjust_colours(
    images: jax.Array, brightness: jax.Array, contrast: jax.Array, saturation: jax.Array
) -> jax.Array:
    """Adjusts the colours of uint8 images by factors >= 0, where 1 changes nothing.

    With factor 0, brightness gives black, contrast an even grey as bright as the mean,
    and saturation a grey image. As Pillow's `ImageEnhance`, but without clipping in
    between: so the three are linear, and their order does not matter.

    Args:
        images: uint8 `[batch, height, width, channels]`.
        brightness: float32 `[batch]`, as the other factors.
        contrast: scales the distance from the mean.
        saturation: scales the distance from grey; grey images have none.
    """
    brightness, contrast, saturation = (
        factor[:, None, None, None] for factor in (brightness, contrast, saturation)
    )
    pixels = brightness * images.astype(jnp.float32)
    grey = luma(pixels)
    mean = grey.mean((1, 2, 3), keepdims=True)
    coloured = grey + saturation * (pixels - grey)
    adjusted = mean + contrast * (coloured - mean)
    return jnp.round(jnp.clip(adjusted, 0, 255)).astype(jnp.uint8)


def luma(images: jax.Array) -> jax.Array:
    """The brightness of each pixel: `[batch, height, width, 1]`."""
    if images.shape[-1] != len(LUMA):
        return images.mean(-1, keepdims=True)
    # A product with weights: on CPU four times as fast as slices of the channels.
    highest = jax.lax.Precision.HIGHEST
    brightness = jnp.einsum("bhwc,c->bhw", images, jnp.array(LUMA), precision=highest)
    return brightness[..., None]
