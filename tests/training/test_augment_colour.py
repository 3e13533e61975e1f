"""Brightness, contrast and saturation against Pillow's ImageEnhance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from src.training.augment_colour import adjust_colours, vary_colours

KEY = jax.random.key(7)
FACTORS = (0.0, 0.3, 0.9, 1.0, 1.6, 2.0)


def noise(*shape, low=0, high=256):
    return np.random.default_rng(0).integers(low, high, shape, dtype=np.uint8)


def adjusted(images, brightness=1.0, contrast=1.0, saturation=1.0):
    factors = (
        jnp.broadcast_to(jnp.float32(factor), images.shape[:1])
        for factor in (brightness, contrast, saturation)
    )
    return np.asarray(adjust_colours(jnp.asarray(images), *factors)).astype(int)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "enhancer"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_each_factor_matches_pillow(name, enhancer, channels):
    images = noise(len(FACTORS), 9, 7, channels)
    found = adjusted(images, **{name: jnp.array(FACTORS)})
    for image, mine, factor in zip(images, found, FACTORS, strict=True):
        picture = enhancer(Image.fromarray(image.squeeze())).enhance(factor)
        # Pillow truncates, and rounds the mean and the grey pixels before.
        expected = np.asarray(picture).reshape(image.shape)
        assert np.abs(mine - expected).max() <= 1 + factor / 2


def test_factors_of_one_change_nothing():
    images = noise(3, 9, 7, 3)
    np.testing.assert_array_equal(adjusted(images), images)


def test_saturation_changes_no_grey_image():
    images = noise(3, 9, 7, 1)
    np.testing.assert_array_equal(adjusted(images, saturation=0.2), images)


def test_pixels_stay_between_black_and_white():
    images = noise(3, 9, 7, 3)
    found = adjusted(images, 2.0, 2.0, 2.0)
    assert (found.min(), found.max()) == (0, 255)


def test_factors_are_applied_one_after_another():
    # Pixels that stay in [0, 255] after each.
    images = noise(1, 9, 7, 3, low=80, high=120).astype(float)
    weights = [0.299, 0.587, 0.114]
    for order in ("bcs", "scb"):
        expected = images
        for name in order:
            grey = (expected @ weights)[..., None]
            if name == "b":
                expected = expected * 1.2
            elif name == "c":
                expected = grey.mean() + 0.8 * (expected - grey.mean())
            else:
                expected = grey + 1.3 * (expected - grey)
        found = adjusted(images.astype(np.uint8), 1.2, 0.8, 1.3)
        assert np.abs(found - expected).max() <= 0.51


def test_factors_are_uniform_and_independent():
    # A grey image of two brightnesses tells brightness and contrast.
    image = np.full((2, 2, 3), 100, np.uint8)
    image[0, 0] = 140
    images = np.broadcast_to(image, (4000, 2, 2, 3))
    found = np.asarray(vary_colours(jnp.asarray(images), KEY, 0.5)).astype(float)[
        ..., 0
    ]
    brightness = found.mean((1, 2)) / 110
    contrast = (found[:, 0, 0] - found[:, 1, 1]) / 40 / brightness
    for factors in (brightness, contrast):
        assert 0.47 < factors.min() < 0.53
        assert 1.47 < factors.max() < 1.53
        assert factors.mean() == pytest.approx(1, abs=0.02)
    assert abs(np.corrcoef(brightness, contrast)[0, 1]) < 0.06
