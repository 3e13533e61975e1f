"""Statistics of the training pixels against numpy in double precision."""

import numpy as np
import pytest

from src.data.lazy_images import LazyImages
from src.data.pixel_statistics import pixel_statistics
from src.storage.lazy_npz import locate_arrays
from src.storage.npz import pack_arrays


def pictures(count, channels):
    rng = np.random.default_rng(channels)
    brightest = rng.integers(1, 256, channels)
    return rng.integers(0, brightest + 1, (count, 9, 7, channels)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_are_those_of_all_pixels_of_a_channel(channels):
    images = pictures(50, channels)
    pixels = images.astype(np.float64) / 255
    mean, deviation = pixel_statistics(images)
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(deviation, pixels.std((0, 1, 2)), rtol=1e-12)


def test_images_on_disk_in_another_order_have_the_same_bits(tmp_path, monkeypatch):
    images = pictures(40, 3)
    parts = []
    for number, piece in enumerate((images[:13], images[13:])):
        path = tmp_path / f"{number}.npz"
        path.write_bytes(pack_arrays({"images": piece}))
        parts.append(locate_arrays(path, "repair", None)["images"])
    monkeypatch.setattr("src.data.lazy_images.PIECE_BYTES", 1000)
    order = np.random.default_rng(0).permutation(40)
    lazy = LazyImages(parts).select(order)
    assert pixel_statistics(lazy) == pixel_statistics(images)


def test_deviation_of_a_constant_channel_is_one():
    images = np.full((2, 4, 4, 1), 51, np.uint8)
    assert pixel_statistics(images) == ((0.2,), (1.0,))
