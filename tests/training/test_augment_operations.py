"""The operations of TrivialAugment against Pillow."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from src.training import augment_operations as operations

STRENGTHS = (-1.0, -0.4, 0.0, 1 / 3, 0.7, 1.0)
HEIGHT, WIDTH = 23, 30


def noise(channels, low=0, high=256):
    shape = (HEIGHT, WIDTH, channels)
    return np.random.default_rng(1).integers(low, high, shape, dtype=np.uint8)


def changed(name, image, strengths=STRENGTHS):
    operation = jax.jit(getattr(operations, name))
    found = [operation(jnp.asarray(image), jnp.float32(each)) for each in strengths]
    assert all(each.dtype == jnp.uint8 for each in found)
    assert all(each.shape == image.shape for each in found)
    return [np.asarray(each).astype(int) for each in found]


def pillow(function, image, *arguments):
    picture = function(Image.fromarray(image.squeeze()), *arguments)
    return np.asarray(picture).reshape(image.shape)


def transform(picture, *matrix):
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix)


def enhance(enhancer, picture, strength):
    return enhancer(picture).enhance(1 + 0.99 * strength)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("shear_x", lambda picture, s: transform(picture, 1, 0.99 * s, 0, 0, 1, 0)),
        ("shear_y", lambda picture, s: transform(picture, 1, 0, 0, 0.99 * s, 1, 0)),
        ("translate_x", lambda picture, s: transform(picture, 1, 0, 15 * s, 0, 1, 0)),
        ("translate_y", lambda picture, s: transform(picture, 1, 0, 0, 0, 1, 11 * s)),
        ("turn", lambda picture, s: picture.rotate(135 * s)),
    ],
)
def test_movements_match_pillow(name, reference, channels):
    image = noise(channels)
    for mine, strength in zip(changed(name, image), STRENGTHS, strict=True):
        expected = pillow(reference, image, strength)
        # A place on the border of two pixels may be rounded to either.
        assert (mine == expected).all(-1).mean() > 0.98, strength


def test_translation_is_at_most_32_pixels():
    image = np.arange(200, dtype=np.uint8)[None, :, None].repeat(2, axis=0)
    found = changed("translate_x", image, [1.0])[0]
    np.testing.assert_array_equal(found[0, :168, 0], np.arange(32, 200))
    assert not found[0, 168:].any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "enhancer"),
    [
        ("brighten", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturate", ImageEnhance.Color),
        ("sharpen", ImageEnhance.Sharpness),
    ],
)
def test_enhancements_match_pillow(name, enhancer, channels):
    image = noise(channels)
    for mine, strength in zip(changed(name, image), STRENGTHS, strict=True):
        expected = pillow(partial(enhance, enhancer), image, strength)
        # Pillow truncates, and rounds the image that it mixes in.
        assert np.abs(mine - expected).max() <= 2, strength


@pytest.mark.parametrize("channels", [1, 3])
def test_posterize_keeps_eight_to_two_bits_as_pillow(channels):
    image = noise(channels)
    for mine, strength in zip(changed("posterize", image), STRENGTHS, strict=True):
        bits = 8 - round(6 * abs(strength))
        expected = pillow(ImageOps.posterize, image, bits)
        np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_solarize_matches_pillow(channels):
    image = noise(channels)
    for mine, strength in zip(changed("solarize", image), STRENGTHS, strict=True):
        threshold = 255 * (1 - abs(strength))
        expected = pillow(ImageOps.solarize, image, math.ceil(round(threshold, 3)))
        np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_stretched_contrast_matches_pillow(channels):
    image = noise(channels, 40, 180)
    expected = pillow(ImageOps.autocontrast, image)
    found = changed("stretch_contrast", image, [0.5])[0]
    assert np.abs(found - expected).max() <= 1  # Pillow truncates
    assert (found.min(), found.max()) == (0, 255)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("low", "high"), [(0, 256), (40, 60), (7, 8), (254, 256)])
def test_equalized_histogram_is_that_of_pillow(channels, low, high):
    image = noise(channels, low, high)
    expected = pillow(ImageOps.equalize, image)
    np.testing.assert_array_equal(changed("equalize", image, [0.5])[0], expected)


@pytest.mark.parametrize("value", [0, 9, 255])
def test_even_images_stay_as_pillow_leaves_them(value):
    image = np.full((HEIGHT, WIDTH, 1), value, np.uint8)
    for name, reference in (
        ("equalize", ImageOps.equalize),
        ("stretch_contrast", ImageOps.autocontrast),
    ):
        expected = pillow(reference, image)
        np.testing.assert_array_equal(changed(name, image, [1.0])[0], expected)


def test_images_of_one_pixel_survive_every_operation():
    image = np.full((1, 1, 3), 9, np.uint8)
    for operation in operations.COLOUR_OPERATIONS:
        assert changed(operation.__name__, image, [0.0, 1.0])[0].shape == (1, 1, 3)
