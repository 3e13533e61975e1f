"""Which examples go to which split: by class, by seed, and groups together."""

import numpy as np
import pytest

from src.data.examples import Examples, Origin, Source
from src.data.prepared import check_source, split_source
from src.data.splitting import grouped_split, split_origins, stratified_split
from src.errors import DataError
from tests.helpers.examples import patterned


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_split_keeps_class_proportions_and_uses_every_example_once(fraction):
    labels = np.repeat(np.arange(4, dtype=np.int32), [100, 40, 20, 8])
    first, second = stratified_split(labels, fraction, (0, 1))
    assert sorted([*first, *second]) == list(range(len(labels)))
    expected = [round(count * fraction) for count in (100, 40, 20, 8)]
    assert np.bincount(labels[second]).tolist() == expected


def test_split_is_a_function_of_its_seed():
    labels = patterned(90, seed=0).labels
    one, again, other = (
        stratified_split(labels, 0.2, seed)[1] for seed in [(1,), (1,), (2,)]
    )
    assert one.tolist() == again.tolist() != other.tolist()


def test_class_with_a_single_example_stays_in_train():
    labels = np.array([0, 1, 1], np.int32)
    first, second = stratified_split(labels, 0.9, (0,))
    assert 0 in first
    assert len(second) == 1


def test_split_of_a_seed_never_changes():
    """The rows as the first version of the function chose them."""
    labels = np.arange(12, dtype=np.int32) % 2
    assert stratified_split(labels, 0.34, (7, 1))[1].tolist() == [0, 6, 9, 11]


def grouped(counts, sizes, seed):
    """Labels and groups: `counts` groups of each class, of 1 to `sizes` examples."""
    rng = np.random.default_rng(seed)
    labels, groups = [], []
    for label, count in enumerate(counts):
        for number in range(count):
            size = int(rng.integers(1, sizes + 1))
            labels += [label] * size
            groups += [f"{label}-{number}"] * size
    order = rng.permutation(len(labels))
    return np.array(labels, np.int32)[order], [groups[row] for row in order]


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_groups_are_never_divided_and_classes_keep_their_share(fraction, seed):
    labels, groups = grouped([60, 40, 25], 7, seed)
    first, second = grouped_split(labels, groups, fraction, (seed, 1))
    assert sorted([*first, *second]) == list(range(len(labels)))
    assert not {groups[row] for row in first} & {groups[row] for row in second}
    shares = np.bincount(labels[second]) / np.bincount(labels)
    largest = 7 / np.bincount(labels)
    assert np.all(np.abs(shares - fraction) <= largest)


def test_groups_of_several_classes_are_never_divided():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 400, dtype=np.int32)
    groups = [f"patient {number}" for number in rng.integers(0, 60, 400)]
    first, second = grouped_split(labels, groups, 0.2, (0, 1))
    assert not {groups[row] for row in first} & {groups[row] for row in second}
    shares = np.bincount(labels[second]) / np.bincount(labels)
    assert np.all(np.abs(shares - 0.2) < 0.05)


def test_examples_without_a_group_are_divided_one_by_one():
    labels = np.repeat(np.arange(2, dtype=np.int32), 50)
    groups = ["", "a"] * 50
    _, second = grouped_split(labels, groups, 0.2, (0,))
    assert np.bincount(labels[second]).tolist() == [10, 10]
    assert not {groups[row] for row in second} & {"a"}


def test_grouped_split_is_a_function_of_its_seed():
    labels, groups = grouped([30, 30], 5, 0)
    one, again, other = (
        grouped_split(labels, groups, 0.3, seed)[1].tolist()
        for seed in [(1,), (1,), (2,)]
    )
    assert one == again != other


def test_no_class_loses_its_last_example_to_the_second_part():
    labels = np.array([0, 0, 0, 1, 1], np.int32)
    first, _ = grouped_split(labels, ["a", "b", "c", "d", "d"], 0.9, (0,))
    assert {0, 1} <= set(labels[first])


def test_class_of_few_large_groups_gives_its_smallest():
    """A group of 4 is above twice the share of 2: nearer would be none."""
    labels = np.repeat(np.arange(2, dtype=np.int32), [21, 20])
    groups = [str(row // 5) for row in range(15)] + ["s", "s"] + ["3"] * 4
    groups += [f"b{row // 4}" for row in range(20)]
    first, second = grouped_split(labels, groups, 0.05, (0,))
    assert {groups[row] for row in second if labels[row] == 0} == {"s"}
    assert np.bincount(labels[second]).tolist() == [2, 4]
    assert not {groups[row] for row in first} & {groups[row] for row in second}


def test_ten_groups_of_four_give_all_splits_examples_of_both_classes():
    given = source([f"group {row // 4}" for row in range(40)])
    labels = np.arange(40, dtype=np.int32) // 4 % 2
    given = given._replace(train=given.train._replace(labels=labels))
    for split in split_source(given, 0.1, 0).values():
        assert set(split.labels.tolist()) == {0, 1}


def test_choice_among_equal_smallest_groups_depends_on_the_seed():
    labels = np.repeat(np.arange(2, dtype=np.int32), 40)
    groups = [str(row // 4) for row in range(80)]
    chosen = {
        tuple(grouped_split(labels, groups, 0.02, (seed,))[1]) for seed in range(8)
    }
    assert len(chosen) > 4


def source(groups, **others):
    train = patterned(len(groups), seed=0)
    origins = {
        "train": [Origin(f"{row}.png", group) for row, group in enumerate(groups)]
    }
    given = {"validation": None, "test": None, "origins": origins} | others
    return Source("mine", "1", ["a", "b", "c"], train, **given)


def test_origins_follow_their_examples_through_the_cut():
    given = source([f"group {row // 3}" for row in range(90)])
    splits = split_source(given, 0.2, 4)
    origins = split_origins(given, 0.2, 4)
    assert list(splits) == list(origins) == ["train", "validation", "test"]
    seen = set()
    for name, rows in origins.items():
        assert len(splits[name].labels) == len(rows) > 0
        for image, origin in zip(splits[name].images, rows, strict=True):
            row = int(origin.file.removesuffix(".png"))
            np.testing.assert_array_equal(image, given.train.images[row])
        groups = {origin.group for origin in rows}
        assert not groups & seen
        seen |= groups


def test_origins_without_groups_leave_the_cut_as_it_is():
    with_origins, without = source([""] * 90), source([""] * 90, origins=None)
    for name, split in split_source(with_origins, 0.2, 4).items():
        expected = split_source(without, 0.2, 4)[name]
        np.testing.assert_array_equal(split.images, expected.images)
    assert split_origins(without, 0.2, 4) == {}


def test_given_splits_keep_their_origins():
    test = patterned(4, seed=1)
    given = source([""] * 30, test=test)
    given.origins["test"] = [Origin(f"test/{row}.png") for row in range(4)]
    found = split_origins(given, 0.2, 0)
    assert found["test"] is given.origins["test"]
    assert len(found["train"]) + len(found["validation"]) == 30


def test_one_group_for_all_is_refused():
    given = source(["one"] * 30)
    with pytest.raises(DataError, match="groups, or validation and test data of your"):
        split_source(given, 0.2, 0)
    with pytest.raises(DataError, match="more images or groups, or validation data"):
        split_source(given._replace(test=patterned(4, seed=1)), 0.2, 0)
    own = {"test": patterned(4, seed=1), "validation": patterned(4, seed=2)}
    assert len(split_source(given._replace(**own), 0.2, 0)["train"].labels) == 30


def test_group_in_two_splits_is_refused():
    images = patterned(3, seed=1)
    given = source(["anna"] * 3, test=Examples(*images))
    given.origins["test"] = [Origin("b.png", "ben"), Origin("x.png", "anna")]
    with pytest.raises(DataError, match=r"group 'anna': .* 0\.png in train and x\.png"):
        check_source(given)
