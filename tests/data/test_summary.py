"""What prepare prints about a data set."""

import numpy as np

from src.data.examples import Examples, PassedOver, data_warnings
from src.data.summary import (
    describe_classes,
    describe_passed_over,
    file_lines,
    unscored_classes,
)


def split(*counts):
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    images = np.arange(len(labels) * 4, dtype=np.uint8).reshape(-1, 2, 2, 1)
    return Examples(images, labels)


def test_few_classes_are_counted_by_split():
    splits = {"train": split(5, 7), "validation": split(1, 2), "test": split(3, 0)}
    assert describe_classes(splits, ["cat", "dog"]) == (
        "train/validation/test images: cat (5/1/3), dog (7/2/0)"
    )


def test_of_many_classes_the_smallest_and_the_largest_are_named():
    splits = {"train": split(*range(3, 24)), "test": split(*[1] * 21)}
    names = [f"class {number}" for number in range(21)]
    assert describe_classes(splits, names) == (
        "4 (class 0) to 24 (class 20) images per class"
    )


def test_passed_over_files_are_counted_by_reason():
    files = [
        *(PassedOver(f"{n}.png", f"broken: reason {n}") for n in range(11)),
        *(PassedOver(f"{n}.txt", "no picture: .txt") for n in range(3)),
    ]
    assert describe_passed_over(files) == (
        "14 files passed over: 11 broken, 3 no picture: .txt"
    )
    lines = file_lines(files)
    assert lines[0] == "0.png: broken: reason 0"
    assert (len(lines), lines[10]) == (11, "and 4 more")


def test_imbalance_beyond_ten_to_one_is_a_warning():
    names = ["a", "b", "c"]
    assert data_warnings(split(50, 5, 9), split(1, 1, 1), names) == []
    (warning,) = data_warnings(split(51, 5, 9), split(1, 1, 1), names)
    assert warning.startswith(
        "classes of very different sizes: a has 51 training examples, b 5."
    )


def test_smallest_class_of_the_imbalance_has_examples():
    names = ["a", "b", "c"]
    missing = data_warnings(split(0, 7, 7), split(0, 1, 1), names)
    assert [warning.split(":")[0] for warning in missing] == [
        "no training example of a"
    ]
    _, warning = data_warnings(split(0, 51, 5), split(0, 1, 1), names)
    assert "b has 51 training examples, c 5." in warning


def test_values_of_12_bits_in_files_of_16_are_a_warning():
    """4095 / 257 = 15: prepare keeps only the upper eight bits."""
    images = split(50, 9).images % 16
    train = Examples(images, split(50, 9).labels)
    (warning,) = data_warnings(train, split(1, 1), ["a", "b"])
    assert "found 0 to 15: nearly black to the network. Multiply" in warning
    assert warning.endswith("by 17.")


def test_single_things_are_counted_in_the_singular():
    files = [PassedOver("x.txt", "no picture: .txt")]
    assert describe_passed_over(files) == "1 file passed over: 1 no picture: .txt"
    images = split(1, 2).images.copy()
    images[0], images[1] = 9, 255  # one constant; bright enough
    images[1, 0, 0] = 0
    (constant,) = data_warnings(Examples(images, split(1, 2).labels), split(1, 1), "ab")
    assert constant.startswith("1 training image in which")


def test_class_without_validation_or_test_examples_is_one_warning():
    splits = {"train": split(5, 7, 0), "validation": split(1, 2), "test": split(3, 0)}
    assert unscored_classes(splits, ["cat", "dog", "cow"]) == [
        "no test example of dog: not scored there. Add images or groups of them."
    ]
    splits["validation"] = split(0, 0)
    (warning,) = unscored_classes(splits, ["cat", "dog", "cow"])
    assert warning.startswith(
        "no validation example of cat, dog, no test example of dog: "
    )
    splits = {"train": split(5, 7), "validation": split(1, 2), "test": split(3, 1)}
    assert unscored_classes(splits, ["cat", "dog"]) == []


def test_of_many_classes_without_test_examples_ten_are_named():
    splits = {
        "train": split(*[1] * 30),
        "validation": split(*[1] * 30),
        "test": split(1),
    }
    (warning,) = unscored_classes(splits, [f"c{number}" for number in range(30)])
    assert warning.startswith("no test example of c1, c2, ")
    assert ", c10, ...: not scored there." in warning
