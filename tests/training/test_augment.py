"""Augmentations against numpy and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from src.config.load import load_params
from src.data.examples import Batch, Examples
from src.training.augment import augment
from src.training.augment_geometry import rotate
from src.training.augment_mixing import mix_up
from tests.helpers.imports import ROOT

KEY = jax.random.key(7)
PARAMS = load_params(ROOT / "params.yaml")
SHIFT = 2


def noise(count, shape=(6, 5, 2)):
    return np.random.default_rng(0).integers(1, 256, (count, *shape), dtype=np.uint8)


def augmented(images, *names, key=KEY, **changes):
    changes = {"augment": names, "shift_pixels": SHIFT} | changes
    examples = Examples(jnp.asarray(images), jnp.zeros(len(images), jnp.int32))
    found = augment(examples, key, PARAMS.model_copy(update=changes)).images
    assert found.dtype == jnp.uint8
    assert found.shape == images.shape
    return np.asarray(found)


def test_no_augmentation_leaves_the_images_unchanged():
    images = noise(3)
    np.testing.assert_array_equal(augmented(images), images)


def test_flip_mirrors_half_of_the_images():
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


@pytest.mark.parametrize(
    "name",
    [
        *("flip", "shift", "cutout"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                *("rotation", "crop", "colour", "trivial"),
                *("erase", "mixup", "cutmix"),
            )
        ),
    ],
)
def test_same_key_gives_the_same_images_and_a_different_key_different_ones(name):
    images = noise(50)
    first = augmented(images, name)
    np.testing.assert_array_equal(augmented(images, name), first)
    assert np.any(augmented(images, name, key=jax.random.key(8)) != first)


def test_rotation_about_the_centre_matches_scipy():
    images = noise(4, (9, 8, 1))
    key = jax.random.key(3)
    angles = np.asarray(jax.random.uniform(key, (4,), minval=-1)) * 40.0
    found = np.asarray(rotate(jnp.asarray(images), key, 40.0))
    for image, mine, angle in zip(images, found, angles, strict=True):
        turn = np.deg2rad(angle)
        matrix = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        middle = np.array([4.0, 3.5])
        expected = ndimage.affine_transform(
            image[..., 0].astype(float),
            matrix,
            middle - matrix @ middle,
            order=1,
            mode="grid-constant",
        )
        # Rounded in float32 here and in float64 there.
        assert np.abs(mine[..., 0] - expected).max() <= 0.51


def test_rotation_stays_within_its_degrees():
    bar = np.zeros((500, 21, 21, 1), np.uint8)
    bar[:, 10] = 255
    found = augmented(bar, "rotation", rotation_degrees=20.0)[..., 0].astype(float)
    right = found[:, :, 18]
    height = 10 - (right * np.arange(21)).sum(1) / right.sum(1)
    angles = np.rad2deg(np.arctan(height / 8))
    assert np.abs(angles).max() < 21
    assert angles.max() > 18
    assert angles.min() < -18


def test_cutout_blackens_one_square_centred_in_the_image():
    images = noise(500, (9, 11, 2))
    found = augmented(images, "cutout", cutout_pixels=4)
    changed = found != images
    assert not found[changed].any()
    for image in changed.any(3):
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert image[np.ix_(rows, columns)].all()
        assert image.sum() == len(rows) * len(columns)
        assert 2 <= len(rows) <= 4
        assert 2 <= len(columns) <= 4
    # Most squares are entirely inside: 6/9 of the rows and 8/11 of the columns.
    whole = (changed.any(3).sum((1, 2)) == 16).mean()
    assert whole == pytest.approx(6 / 9 * 8 / 11, abs=0.1)


def test_mixup_mixes_each_image_and_its_loss_with_its_neighbour():
    images, labels = noise(6), np.arange(6, dtype=np.int32)
    batch = mix_up(Batch(jnp.asarray(images), jnp.asarray(labels)), KEY, 0.4)
    share = float(batch.shares[0])
    assert np.unique(batch.shares).size == 1
    assert 0.5 <= share < 1
    np.testing.assert_array_equal(batch.labels, labels)
    np.testing.assert_array_equal(batch.partners, [5, 0, 1, 2, 3, 4])
    expected = share * images + (1 - share) * images[[5, 0, 1, 2, 3, 4]]
    assert np.abs(np.asarray(batch.images) - expected).max() <= 0.51


def test_mixup_draws_its_share_from_the_beta_distribution():
    batch = Batch(jnp.asarray(noise(2)), jnp.zeros(2, jnp.int32))
    keys = jax.random.split(KEY, 2000)
    shares = jax.vmap(lambda key: mix_up(batch, key, 0.5).shares[0])(keys)
    # Beta(1/2, 1/2) is the arcsine law: its upper half has mean 1/2 + 1/pi.
    assert float(shares.mean()) == pytest.approx(0.5 + 1 / np.pi, abs=0.02)


def test_overfit_batches_are_not_augmented():
    images = noise(20)
    found = augmented(images, "flip", "shift", overfit_batches=1)
    np.testing.assert_array_equal(found, images)
