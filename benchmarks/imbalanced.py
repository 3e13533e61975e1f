"""Writes the digits with classes of different sizes, as a folder of npz files.

    python -m benchmarks.imbalanced my-digits

Class 0 keeps 100 training images, each next class 30 % fewer, class 9 has 4. The test
images are all 355 of data/prepared.
"""

import argparse
from pathlib import Path

import numpy as np

PREPARED = Path("data/prepared")
LARGEST, SMALLEST = 100, 4  # training images of class 0, and of class 9


def imbalanced(labels: np.ndarray) -> np.ndarray:
    """The rows to keep: the first images of each class."""
    classes = int(labels.max()) + 1
    counts = np.geomspace(LARGEST, SMALLEST, classes).round().astype(int)
    kept = [np.flatnonzero(labels == k)[:count] for k, count in enumerate(counts)]
    return np.sort(np.concatenate(kept))


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a split of data/prepared."""
    with np.load(PREPARED / f"{name}.npz") as arrays:
        return arrays["images"], arrays["labels"]


def main() -> None:
    """Writes train.npz and test.npz into the folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, help="the folder to write")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    images, labels = load("train")
    rows = imbalanced(labels)
    np.savez(out / "train.npz", images=images[rows], labels=labels[rows])
    images, labels = load("test")
    np.savez(out / "test.npz", images=images, labels=labels)
    print(f"{len(rows)} training and {len(labels)} test images")


if __name__ == "__main__":
    main()
