"""The changes to training images, against numpy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from src.augment import SHIFT, augment_images

KEY = jax.random.key(7)


def noise(count, shape=(6, 5, 2)):
    return np.random.default_rng(0).integers(1, 256, (count, *shape), dtype=np.uint8)


def augmented(images, *names, key=KEY):
    found = augment_images(jnp.asarray(images), names, key)
    assert found.dtype == jnp.uint8
    return np.asarray(found)


def test_without_names_the_images_stay_as_they_are():
    images = noise(3)
    np.testing.assert_array_equal(augmented(images), images)


def test_flip_exchanges_left_and_right_in_half_of_the_images():
    images = noise(2000)
    found = augmented(images, "flip")
    turned = (found == np.flip(images, axis=2)).all((1, 2, 3))
    kept = (found == images).all((1, 2, 3))
    assert np.all(turned ^ kept)
    # Four standard deviations of a fair coin thrown 2,000 times.
    assert abs(turned.sum() - 1000) < 4 * np.sqrt(500)


def test_shift_moves_each_image_by_up_to_two_pixels_and_fills_with_black():
    images = noise(1000)
    found = augmented(images, "shift")
    height, width = images.shape[1:3]
    moves = [
        (down, right)
        for down in range(-SHIFT, SHIFT + 1)
        for right in range(-SHIFT, SHIFT + 1)
    ]
    counts = dict.fromkeys(moves, 0)
    for image, mine in zip(images, found, strict=True):
        matches = []
        for down, right in moves:
            expected = np.zeros_like(image)
            for row in range(height):
                for column in range(width):
                    if 0 <= row - down < height and 0 <= column - right < width:
                        expected[row, column] = image[row - down, column - right]
            if np.array_equal(expected, mine):
                matches.append((down, right))
        assert len(matches) == 1
        counts[matches[0]] += 1
    # 40 are expected of each of the 25 moves; four standard deviations are 25.
    assert all(abs(count - 40) < 25 for count in counts.values())


@pytest.mark.parametrize("name", ["flip", "shift"])
def test_the_same_key_gives_the_same_images_and_another_key_others(name):
    images = noise(50)
    first = augmented(images, name)
    np.testing.assert_array_equal(augmented(images, name), first)
    assert np.any(augmented(images, name, key=jax.random.key(8)) != first)
