"""Equal and nearly equal pictures, and warnings that name files."""

import re

import numpy as np
import pytest
from PIL import Image

from src.data.duplicates import (
    close_pairs,
    difference_hashes,
    equal_pairs,
    near_pairs,
)
from src.data.examples import Examples, Origin, image_hashes
from src.data.picture_warnings import picture_warnings, size_warnings
from src.data.pictures import to_pixels


def scene(seed, side=64, channels=3):
    """A smooth picture: random colours in a coarse grid, enlarged."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    return to_pixels(picture, channels)


def scenes(*seeds, **options):
    return np.stack([scene(seed, **options) for seed in seeds])


def naive_hash(image):
    """The difference hash, computed cell by cell."""
    grey = image.astype(int).sum(-1)
    height, width = grey.shape
    means = [
        [
            grey[
                row * height // 8 : (row + 1) * height // 8,
                column * width // 9 : (column + 1) * width // 9,
            ].mean()
            for column in range(9)
        ]
        for row in range(8)
    ]
    bits = [means[row][c + 1] > means[row][c] for row in range(8) for c in range(8)]
    return np.packbits(bits).view(np.uint64)[0]


def distance(one, other):
    return int(np.bitwise_count(one ^ other))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [9, 28, 65])
def test_difference_hash_matches_its_definition(side, channels):
    images = scenes(*range(5), side=side, channels=channels)
    expected = [naive_hash(image) for image in images]
    assert difference_hashes(images).tolist() == expected


def test_difference_hash_of_tiny_pictures_is_defined():
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)
    assert len(difference_hashes(images)) == 2


def test_picture_that_was_saved_again_has_nearly_the_same_hash(tmp_path):
    original = scene(3)
    Image.fromarray(original).save(tmp_path / "a.jpg", quality=70)
    again = np.asarray(Image.open(tmp_path / "a.jpg"))
    one, other, different = difference_hashes(np.stack([original, again, scene(4)]))
    assert distance(one, other) <= 2
    assert distance(one, different) > 10


def test_near_pairs_match_a_comparison_of_all_pairs():
    rng = np.random.default_rng(0)
    one = rng.integers(0, 2**63, 200, dtype=np.uint64)
    other = one[rng.integers(0, 200, 150)].copy()
    for row, hash_ in enumerate(other):
        for bit in rng.integers(0, 64, row % 5):
            hash_ ^= np.uint64(1) << np.uint64(bit)
        other[row] = hash_
    expected = [
        [first, second]
        for first in range(200)
        for second in range(150)
        if distance(one[first], other[second]) <= 2
    ]
    assert near_pairs(one, other).tolist() == expected
    assert len(expected) > 50


def test_plain_pictures_are_not_nearly_equal():
    plain = np.zeros((3, 32, 32, 1), np.uint8)
    hashes = difference_hashes(plain)
    assert near_pairs(hashes, hashes).tolist() == []


def test_pictures_of_equal_hashes_but_other_pixels_are_not_close():
    images = scenes(0, 1)
    darker, slightly = images // 2, images - np.minimum(images, 5)
    pairs = np.array([[0, 0], [1, 1]])
    assert close_pairs(images, slightly, pairs).tolist() == pairs.tolist()
    assert close_pairs(images, darker, pairs).tolist() == []
    assert close_pairs(images, images, pairs[:0]).tolist() == []


@pytest.mark.slow
def test_many_equal_hashes_are_compared_in_bounded_time():
    hashes = np.full(20_000, 0x0F0F0F0F0F0F0F0F, np.uint64)
    assert len(near_pairs(hashes, hashes)) == 20_000 * 64


def test_equal_pairs_are_of_two_kinds():
    hashes = np.array([5, 3, 5, 3, 9, 5], np.uint64)
    kinds = np.array([0, 1, 1, 1, 0, 0])
    assert equal_pairs(hashes, kinds).tolist() == [[5, 2]]


def given(train, test):
    """Splits of two classes, and origins that name the rows."""
    splits = {
        name: Examples(images, np.arange(len(images), dtype=np.int32) % 2)
        for name, images in (("train", train), ("test", test))
    }
    origins = {
        name: [
            Origin(f"{name}/{row}.png", width=64, height=64) for row in range(len(s[0]))
        ]
        for name, s in splits.items()
    }
    return splits, origins, ["cat", "dog"]


def test_different_pictures_give_no_warning():
    assert picture_warnings(*given(scenes(*range(6)), scenes(7, 8))) == []


def test_picture_in_two_classes_and_splits_is_named():
    two_classes, two_splits = picture_warnings(*given(scenes(0, 1, 2), scenes(9, 2)))
    assert two_classes == (
        "one picture in two classes, 2 files in all: train/2.png (cat) and "
        "test/1.png (dog). Remove the wrong one."
    )
    assert two_splits == (
        "one picture in two splits, 2 files in all: train/2.png (train) and "
        "test/1.png (test). Keep only one of them."
    )


def test_all_files_of_equal_pictures_are_counted():
    train, test = scenes(*[0] * 6), scenes(*[0] * 6, 1)
    two_classes, two_splits = picture_warnings(*given(train, test))
    assert "12 files in all: " in two_classes
    assert "12 files in all: " in two_splits


def test_nearly_equal_pictures_are_counted_as_a_lower_bound():
    """Only some of many pairs are compared."""
    train, test = (np.repeat(scenes(0, side=9), 200, axis=0) for _ in range(2))
    train[:, 0, 0, 0] = np.arange(200)
    test[:, 0, 0, 1] ^= 1
    test[:, 0, 0, 0] = np.arange(200)
    (warning,) = picture_warnings(*given(train, test))
    assert warning.startswith("nearly equal pictures in two splits, ")
    assert 200 < int(re.search(r"at least (\d+) files:", warning)[1]) <= 400


def test_nearly_equal_pictures_in_two_splits_are_named():
    changed = scenes(5, 1)
    changed[1, :3, :3] ^= 1
    (warning,) = picture_warnings(*given(scenes(0, 1, 2), changed))
    assert warning.startswith(
        "nearly equal pictures in two splits, at least 2 files: train/1.png (train) "
        "and test/1.png (test)."
    )


def test_only_the_first_pairs_are_named():
    train = scenes(*range(10))
    _, warning = picture_warnings(*given(train, train[[1, 0, 3, 2, 5, 4]]))
    assert warning.count(" and ") == 3
    assert "12 files in all: " in warning


def test_hashes_of_pixels_are_one_a_row():
    images = scenes(0, 1, 0)
    hashes = image_hashes(images)
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            (1001, 1001),
            "over 10 times the median size: x.png (1001 x 1001) (1 in all).",
        ),
        ((1000, 1000), None),
        ((9, 9), "under 1/10 of the median size: x.png (9 x 9) (1 in all)."),
        ((10, 10), None),
        ((101, 20), "over 5 to 1 in shape: x.png (101 x 20) (1 in all)."),
        ((20, 101), "over 5 to 1 in shape: x.png (20 x 101) (1 in all)."),
        ((100, 20), None),
    ],
)
def test_extreme_sizes_are_named(size, message):
    usual = [Origin(f"{row}.png", width=100, height=80) for row in range(5)]
    found = size_warnings([*usual, Origin("x.png", "", "", *size)])
    assert found == ([f"pictures {message}"] if message else [])
