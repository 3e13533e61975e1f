"""The folds of cross-validation: each example once, stratified, groups whole."""

import io

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from src.errors import DataError, ParameterError
from src.experiments.folds import (
    OF_FOLDS,
    assign_folds,
    check_folds,
    number_groups,
    pack_folds,
    summarize_folds,
)

NAMES = ("ant", "bee", "cat", "dog")
labels_of = st.lists(st.integers(0, 3), min_size=4, max_size=60).map(
    lambda values: np.array(values, np.int32)
)


def hashes(*values):
    return np.array(values, np.uint64)


@settings(deadline=None)
@given(labels_of, st.integers(2, 5), st.integers(0, 9))
def test_folds_are_equally_large_and_stratified(labels, count, seed):
    groups = np.arange(len(labels))
    assume(min(np.bincount(labels)[np.unique(labels)]) >= 2)
    assume(len(labels) >= count)
    folds = assign_folds(labels, groups, count, seed)
    assert set(folds.tolist()) == set(range(1, count + 1))
    for members in (slice(None), *(labels == label for label in range(4))):
        sizes = np.bincount(folds[members], minlength=count + 1)[1:]
        assert sizes.max() - sizes.min() <= 1


@settings(deadline=None)
@given(st.data(), labels_of, st.integers(2, 4))
def test_groups_stay_whole(data, labels, count):
    size = len(labels)
    drawn = data.draw(st.lists(st.integers(0, 9), min_size=size, max_size=size))
    groups = np.unique(drawn, return_inverse=True)[1]
    assume(len(np.unique(labels)) > 1)
    try:
        check_folds(count, labels, groups, NAMES)
        folds = assign_folds(labels, groups, count, seed=0)
    except (DataError, ParameterError):
        return
    assert set(folds.tolist()) == set(range(1, count + 1))
    for group in np.unique(groups):
        assert len(np.unique(folds[groups == group])) == 1
    for label in np.unique(labels):  # a network without the fold has seen the class
        assert len(np.unique(folds[labels == label])) > 1


def test_large_groups_are_stratified_as_far_as_possible():
    labels = np.repeat([0, 1], 60)
    groups = np.arange(120) // 10
    folds = assign_folds(labels, groups, 3, seed=0)
    table = [np.bincount(folds[labels == label])[1:].tolist() for label in (0, 1)]
    assert table == [[20, 20, 20], [20, 20, 20]]


def test_folds_are_a_function_of_the_seed():
    labels, groups = np.repeat([0, 1], 50), np.arange(100)
    one, again, other = (assign_folds(labels, groups, 5, seed) for seed in (1, 1, 2))
    assert one.tolist() == again.tolist() != other.tolist()


def test_class_whose_large_groups_fall_into_one_fold_is_refused():
    # Class 1 is in both of its groups with so many of class 0 that they go together.
    labels = np.array([0] * 8 + [1] + [0] * 8 + [1])
    groups = np.array([0] * 9 + [1] * 9)
    folds = assign_folds(labels, groups, 2, seed=0)
    assert len(np.unique(folds[labels == 1])) == 2
    with pytest.raises(DataError, match=r"each class in two folds"):
        assign_folds(labels, np.zeros(18, int), 2, seed=0)


def test_examples_of_one_group_or_one_image_are_one_group():
    names = ["anna", "", "anna", "ben", "", ""]
    images = hashes(1, 2, 3, 3, 4, 2)
    found = number_groups(names, images)
    # anna's second image is ben's; the two images without a name are equal.
    assert found[0] == found[2] == found[3]
    assert found[1] == found[5]
    assert sorted(set(found.tolist())) == [0, 1, 2]


def test_examples_without_groups_and_copies_are_alone():
    found = number_groups([""] * 4, hashes(7, 9, 8, 6))
    assert sorted(found.tolist()) == [0, 1, 2, 3]


def test_more_folds_than_groups_of_a_class_are_refused():
    labels, groups = np.array([0, 0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 3, 4, 5, 5])
    check_folds(2, labels, groups, NAMES)
    expected = (
        "--folds: expected at most 2, because there are 2 groups of examples of bee "
        r"(an example without a group is one), found 3. Use --folds 2."
    )
    with pytest.raises(ParameterError) as error:
        check_folds(3, labels, groups, NAMES)
    assert str(error.value) == expected


def test_class_of_one_group_is_refused():
    labels, groups = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2])
    with pytest.raises(DataError, match="found 1 group of examples of cat"):
        check_folds(2, labels, groups, NAMES)


def test_examples_of_one_class_are_refused():
    with pytest.raises(DataError, match="two classes or more, found only cat"):
        check_folds(2, np.array([2, 2]), np.array([0, 1]), NAMES)


def test_class_without_examples_is_no_obstacle():
    check_folds(2, np.array([0, 0, 3, 3]), np.arange(4), NAMES)


def test_summary_has_mean_and_deviation_of_each_score():
    scores = [dict.fromkeys(OF_FOLDS, value) for value in (0.5, 0.7)]
    found = summarize_folds(scores)
    assert found.keys() == set(OF_FOLDS)
    assert found["f1"]["mean"] == pytest.approx(0.6)
    assert found["f1"]["standard_deviation"] == pytest.approx(0.02**0.5)


@pytest.mark.parametrize("files", [["a/ü.png", "b.png"], ["", ""]])
def test_packed_folds_are_read_by_numpy(files):
    probabilities = np.array([[0.25, 0.75], [1, 0]], np.float32)
    labels, folds = np.array([1, 0], np.int32), np.array([2, 1], np.int32)
    rows = np.array([3, 9])
    packed = pack_folds(probabilities, labels, folds, rows, files, NAMES[:2], "ab")
    with np.load(io.BytesIO(packed)) as found:
        assert found["probabilities"].dtype == np.float32
        assert found["probabilities"].tolist() == probabilities.tolist()
        assert found["labels"].tolist() == [1, 0]
        assert found["folds"].tolist() == [2, 1]
        assert found["rows"].tolist() == [3, 9]
        assert found["class_names"].tolist() == ["ant", "bee"]
        assert str(found["train_sha256"]) == "ab"
        assert ("files" in found) == any(files)
        if any(files):
            assert found["files"].tolist() == files
