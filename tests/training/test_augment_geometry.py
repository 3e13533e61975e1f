"""Random resized crops against Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from src.training.augment_geometry import crop, enlarge
from src.training.boxes import Boxes

KEY = jax.random.key(7)
# Compiled once, not operation by operation.
CROP, ENLARGE = jax.jit(crop, static_argnums=2), jax.jit(enlarge)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def boxes(*rows):
    return Boxes(*jnp.array(rows, jnp.int32).T)


@pytest.mark.parametrize("channels", [1, 3])
def test_enlarged_boxes_match_pillow(channels):
    images = noise(5, 12, 17, channels)
    places = [
        (0, 0, 12, 17),
        (3, 2, 7, 9),
        (11, 16, 1, 1),
        (0, 5, 12, 1),
        (2, 0, 5, 17),
    ]
    found = np.asarray(ENLARGE(jnp.asarray(images), boxes(*places)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[0], images[0])
    for image, mine, (top, left, height, width) in zip(
        images, found, places, strict=True
    ):
        picture = Image.fromarray(image.squeeze())
        part = picture.crop((left, top, left + width, top + height))
        expected = np.asarray(part.resize((17, 12), Image.Resampling.BILINEAR))
        # Pillow rounds after each direction.
        difference = mine.astype(int) - expected.reshape(mine.shape)
        assert np.abs(difference).max() <= 1


def test_crop_enlarges_boxes_of_the_given_areas():
    # A ramp: the slope of the crop is the size of its box.
    ramp = np.arange(0, 256, 4, dtype=np.uint8)
    rows = np.broadcast_to(ramp[:, None], (64, 64))
    image = np.stack([rows, rows.T, rows], -1)
    images = np.broadcast_to(image, (500, *image.shape))
    found = np.asarray(CROP(jnp.asarray(images), KEY, 0.4)).astype(float)
    heights = (found[:, 48, 0, 0] - found[:, 16, 0, 0]) / 32 / 4
    widths = (found[:, 0, 48, 1] - found[:, 0, 16, 1]) / 32 / 4
    np.testing.assert_array_equal(found[..., 0], found[..., 2])
    # Large boxes of extreme ratios do not fit, so they are rarer than small ones.
    areas = heights * widths
    assert 0.37 < areas.min() < 0.45
    assert areas.max() > 0.95
    ratios = np.log(widths / heights)
    assert np.abs(ratios).max() < np.log(4 / 3) + 0.05
    assert stats.ttest_1samp(ratios, 0).pvalue > 1e-3


def test_crop_of_a_narrow_image_keeps_its_middle():
    images = noise(50, 4, 40, 1)
    found = np.asarray(CROP(jnp.asarray(images), KEY, 1.0))
    # 4/3 of the height, rounded, is 5 pixels: those from 17 on.
    middle = ENLARGE(jnp.asarray(images), boxes(*[(0, 17, 4, 5)] * 50))
    np.testing.assert_array_equal(found, middle)
