"""The score of pictures that are unlike the training pictures."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances

from src.errors import DataError
from src.export.unlike import (
    CENTRES,
    FITTED,
    coarse_pixels,
    read_centres,
    spread,
    typical_pictures,
    unlike_scores,
    unlike_threshold,
)
from tests.helpers.examples import patterned
from tests.helpers.files import write_arrays

SHAPE = 8, 8, 1


def smooth(count, seed, shape=SHAPE):
    """Images with correlated pixels: a few patterns, and a little noise."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(9).normal(0, 20, (4, *shape))
    images = 128 + np.einsum("nk,kyxc->nyxc", rng.normal(size=(count, 4)), patterns)
    return (images + rng.normal(0, 4, images.shape)).clip(0, 255).astype(np.uint8)


def test_small_images_are_their_own_pixels():
    images = smooth(3, 0)
    expected = images.reshape(3, -1) / np.float32(255)
    np.testing.assert_array_equal(coarse_pixels(images), expected)


def test_cells_have_the_mean_and_the_deviation_of_their_pixels():
    images = np.random.default_rng(0).integers(0, 256, (2, 14, 20, 3), dtype=np.uint8)
    found = coarse_pixels(images)
    cells = [  # of 3 pixels; the last ones are smaller
        images[:, y : y + 3, x : x + 3] / 255
        for y in range(0, 14, 3)
        for x in range(0, 20, 3)
    ]
    means = np.stack([cell.mean((1, 2)) for cell in cells], 1).reshape(2, -1)
    deviations = np.stack([cell.std((1, 2)) for cell in cells], 1).reshape(2, -1)
    expected = np.concatenate([means, deviations], 1)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_score_is_the_root_mean_square_difference_from_the_nearest_centre():
    centres = typical_pictures(smooth(200, 1))
    images = smooth(5, 2)
    apart = pairwise_distances(images.reshape(5, -1) / 255, centres)
    expected = 255 * apart.min(1) / 8  # the root of 64 pixels
    np.testing.assert_allclose(unlike_scores(centres, images), expected, rtol=1e-5)


def test_score_of_a_centre_is_zero_and_of_a_brighter_one_the_difference():
    image = np.full((1, *SHAPE), 100, np.uint8)
    centres = typical_pictures(np.repeat(image, 30, 0))
    assert unlike_scores(centres, image) == pytest.approx(0, abs=1e-2)
    assert unlike_scores(centres, image + np.uint8(50)) == pytest.approx(50, rel=1e-5)


def test_centres_are_about_as_good_as_those_of_scikit_learn():
    train = smooth(400, 1)
    pixels = train.reshape(400, -1) / 255
    theirs = KMeans(40, n_init=1, random_state=0).fit(pixels).cluster_centers_
    found, expected = (
        np.mean(unlike_scores(each, train) ** 2)
        for each in (typical_pictures(train), theirs)
    )
    assert found <= 1.25 * expected


def test_centre_is_the_mean_of_at_least_three_pictures():
    train = np.concatenate([smooth(60, 1), np.full((1, *SHAPE), 255, np.uint8)])
    centres, pixels = typical_pictures(train), train.reshape(61, -1) / 255
    apart = pairwise_distances(centres, pixels)
    assert apart.min() > 0.01  # none is a picture
    assert len(centres) <= 6


def test_threshold_is_a_score_that_99_percent_of_the_images_do_not_exceed():
    centres, images = typical_pictures(smooth(200, 1)), smooth(500, 3)
    threshold = unlike_threshold(centres, images)
    scores = unlike_scores(centres, images)
    assert (scores > threshold).sum() == 4
    assert threshold in scores


def test_noise_and_other_pictures_are_beyond_the_threshold():
    centres = typical_pictures(smooth(300, 1))
    threshold = unlike_threshold(centres, smooth(100, 3))
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (20, *SHAPE), dtype=np.uint8)
    for others in (noise, patterned(20, 0).images):
        assert (unlike_scores(centres, others) > threshold).all()
    assert (unlike_scores(centres, smooth(200, 4)) > threshold).mean() < 0.05


@pytest.mark.parametrize(
    "images",
    [smooth(1, 0), smooth(2, 0), np.zeros((50, *SHAPE), np.uint8)],
    ids=["one", "two", "equal ones"],
)
def test_few_or_equal_training_images_give_scores(images):
    centres = typical_pictures(images)
    assert len(centres) == 1
    assert np.isfinite(unlike_scores(centres, smooth(3, 1))).all()


def test_centres_are_the_same_each_time_and_small():
    images = smooth(4000, 1, (20, 16, 3))
    first = typical_pictures(images)
    np.testing.assert_array_equal(first, typical_pictures(images))
    assert first.shape[1] == 2 * 7 * 6 * 3
    assert CENTRES / 2 < len(first) <= CENTRES
    assert first.nbytes < 500_000


def test_large_split_is_represented_by_images_from_end_to_end():
    images = np.arange(2 * FITTED, dtype=np.int32).astype(np.uint8).reshape(-1, 1, 1, 1)
    chosen = spread(images)
    assert len(chosen) == FITTED
    assert chosen[0] == images[0]
    assert chosen[-1] == images[-1]


@pytest.mark.parametrize(
    "arrays",
    [
        {"centres": np.zeros((3, 65), np.float32)},
        {"centres": np.zeros((0, 64), np.float32)},
        {"centres": np.zeros(64, np.float32)},
        {"centres": np.zeros((3, 64))},
        {"centres": np.full((3, 64), np.nan, np.float32)},
        {"others": np.zeros((3, 64), np.float32)},
    ],
    ids=["of other images", "none", "flat", "float64", "nan", "other name"],
)
def test_centres_of_another_form_are_refused(tmp_path, arrays):
    path = tmp_path / "unlike.npz"
    sha256 = write_arrays(path, arrays)
    with pytest.raises(
        DataError, match=r"unlike.npz: expected centres, float32 \[k, 64"
    ):
        read_centres(path, sha256, SHAPE, "Recreate it.")


@pytest.mark.parametrize("damage", ["changed", "cut", "missing"])
def test_damaged_centres_are_refused(tmp_path, damage):
    path = tmp_path / "unlike.npz"
    sha256 = write_arrays(path, {"centres": typical_pictures(smooth(100, 1))})
    content = bytearray(path.read_bytes())
    content[-500] ^= 1
    path.write_bytes(content[:-99] if damage == "cut" else content)
    if damage == "missing":
        path.unlink()
    with pytest.raises(DataError, match=r"unlike\.npz: expected .*\. Recreate it\."):
        read_centres(path, sha256, SHAPE, "Recreate it.")


def test_centres_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "unlike.npz"
    centres = typical_pictures(smooth(100, 1))
    sha256 = write_arrays(path, {"centres": centres})
    found = read_centres(path, sha256, SHAPE, "Recreate it.")
    np.testing.assert_array_equal(found, centres)
