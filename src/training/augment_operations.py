"""The operations of TrivialAugment, each on one image.

Source: Müller and Hutter 2021, arXiv:2103.10158, table 1, the "wide" set.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from src.training.augment_colour import adjust_colours

MAX_SHEAR = 0.99
MAX_TRANSLATION = 32  # pixels; at most half of the image
MAX_DEGREES = 135
MAX_FACTOR = 0.99  # of brightness, contrast, saturation and sharpness: 1 +- this
FEWEST_BITS = 2

# (uint8 image `[height, width, channels]`, strength in [-1, 1]) to such an image
Operation = Callable[[jax.Array, jax.Array], jax.Array]


def identity(image: jax.Array, strength: jax.Array) -> jax.Array:
    """The image."""
    return image


def shear_x(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Moves rows by up to 0.99 times their distance from the first."""
    return affine(image, (1, MAX_SHEAR * strength, 0), (0, 1, 0))


def shear_y(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Moves columns by up to 0.99 times their distance from the first."""
    return affine(image, (1, 0, 0), (MAX_SHEAR * strength, 1, 0))


def translate_x(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Moves the image to the left or right."""
    most = min(MAX_TRANSLATION, image.shape[1] // 2)
    return affine(image, (1, 0, most * strength), (0, 1, 0))


def translate_y(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Moves the image up or down."""
    most = min(MAX_TRANSLATION, image.shape[0] // 2)
    return affine(image, (1, 0, 0), (0, 1, most * strength))


def turn(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Rotates the image about its centre, anticlockwise if `strength` is positive."""
    angle = math.radians(MAX_DEGREES) * strength
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    middle_x, middle_y = image.shape[1] / 2, image.shape[0] / 2
    across = middle_x - cosine * middle_x + sine * middle_y
    down = middle_y - sine * middle_x - cosine * middle_y
    return affine(image, (cosine, -sine, across), (sine, cosine, down))


def affine(
    image: jax.Array,
    to_x: tuple[jax.Array | float, ...],
    to_y: tuple[jax.Array | float, ...],
) -> jax.Array:
    """Pixel (x, y) of the result is that at `to_x . (x, y, 1)`, `to_y . (x, y, 1)`.

    The nearest pixel, black outside, as in Pillow's `Image.transform`.
    """
    height, width, _ = image.shape
    y, x = jnp.indices((height, width)) + 0.5  # centres of the pixels
    column = jnp.floor(to_x[0] * x + to_x[1] * y + to_x[2]).astype(jnp.int32)
    row = jnp.floor(to_y[0] * x + to_y[1] * y + to_y[2]).astype(jnp.int32)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = jnp.where(inside, row * width + column, 0)
    moved = image.reshape(height * width, -1)[place]
    return jnp.where(inside[..., None], moved, jnp.uint8(0))


def brighten(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Multiplies the brightness by 1 + 0.99 strength."""
    return recolour(image, brightness=strength)


def contrast(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Multiplies the contrast by 1 + 0.99 strength."""
    return recolour(image, contrast=strength)


def saturate(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Multiplies the saturation by 1 + 0.99 strength."""
    return recolour(image, saturation=strength)


def recolour(
    image: jax.Array,
    brightness: jax.Array | float = 0.0,
    contrast: jax.Array | float = 0.0,
    saturation: jax.Array | float = 0.0,
) -> jax.Array:
    """`adjust_colours` of one image; a strength of 0 changes nothing."""
    factors = [
        1 + MAX_FACTOR * jnp.asarray(strength, jnp.float32)[None]
        for strength in (brightness, contrast, saturation)
    ]
    return adjust_colours(image[None], *factors)[0]


def sharpen(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Sharpens or blurs: the distance from a smooth image times 1 + 0.99 strength.

    The smooth image is Pillow's: the mean of 3 x 3 pixels, of which the middle counts
    five times. The outermost pixels stay.
    """
    pixels = image.astype(jnp.float32)
    height, width, _ = pixels.shape
    if min(height, width) < 3:
        return image
    inner = pixels[1:-1, 1:-1]
    total = 4 * inner
    for row in range(3):
        for column in range(3):
            total += pixels[row : row + height - 2, column : column + width - 2]
    smooth = total / 13
    sharp = smooth + (1 + MAX_FACTOR * strength) * (inner - smooth)
    sharp = jnp.round(jnp.clip(sharp, 0, 255)).astype(jnp.uint8)
    return image.at[1:-1, 1:-1].set(sharp)


def posterize(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Keeps the highest bits of each pixel: 8 to 2 of them."""
    dropped = jnp.round((8 - FEWEST_BITS) * jnp.abs(strength)).astype(jnp.uint8)
    return (image >> dropped) << dropped


def solarize(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Inverts the pixels from a brightness on: the stronger, the lower."""
    threshold = 255 * (1 - jnp.abs(strength))
    return jnp.where(image.astype(jnp.float32) >= threshold, 255 - image, image)


def stretch_contrast(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Stretches each channel, so that it reaches from 0 to 255."""
    pixels = image.astype(jnp.float32)
    low, high = pixels.min((0, 1), keepdims=True), pixels.max((0, 1), keepdims=True)
    span = jnp.maximum(high - low, 1)
    stretched = jnp.round((pixels - low) * 255 / span).astype(jnp.uint8)
    return jnp.where(high > low, stretched, image)


def equalize(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Equalizes the histogram of each channel, as Pillow's `ImageOps.equalize`."""

    def table(pixels: jax.Array) -> jax.Array:
        counts = jnp.zeros(256, jnp.int32).at[pixels].add(1)
        step = (pixels.size - counts[pixels.max()]) // 255
        below = jnp.cumsum(counts) - counts
        values = jnp.clip((step // 2 + below) // jnp.maximum(step, 1), 0, 255)
        # Nothing to equalize: nearly all pixels have the largest value.
        return jnp.where(step > 0, values, jnp.arange(256)).astype(jnp.uint8)

    def channel(pixels: jax.Array) -> jax.Array:
        return table(pixels.reshape(-1))[pixels]

    equalized: jax.Array = jax.vmap(channel, in_axes=2, out_axes=2)(image)
    return equalized


GREY_OPERATIONS: tuple[Operation, ...] = (
    identity,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
    turn,
    brighten,
    contrast,
    sharpen,
    posterize,
    solarize,
    stretch_contrast,
    equalize,
)
COLOUR_OPERATIONS = (*GREY_OPERATIONS, saturate)
