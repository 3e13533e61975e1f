"""How many flipped labels `stages.folds` puts at the top of its list.

    python -m benchmarks.doubtful --data benchmarks/.data

For each seed, 10,000 training images of Fashion-MNIST and 1,000 for validation are
drawn, and 5 % of the labels of both become another class. Counts how many of the 500
flipped training labels are among the first 700 rows (7 %) of doubtful_labels.csv.
Writes the table in README.md.
"""

import argparse
import csv
import tempfile
from contextlib import chdir
from pathlib import Path

import numpy as np

from benchmarks.project import FASHION, finish, make_project, start
from benchmarks.sections import replace_section, table
from benchmarks.task import load_split
from src.data.examples import Examples, Source
from src.data.prepared import save_prepared
from src.storage.atomic import atomic_commit

TRAIN, VALIDATION = 10_000, 1_000  # images
FLIPPED, LOOKED_AT = 0.05, 0.07  # shares of the training images
CLASSES = [str(number) for number in range(10)]
RECIPE = {**FASHION, "batch_size": 64, "lr": 0.004, "epochs": 6}


def flip(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gives a share of the labels, in place, another class; returns their rows."""
    rows = rng.permutation(len(labels))[: round(FLIPPED * len(labels))]
    shifts = rng.integers(1, len(CLASSES), len(rows))
    labels[rows] = (labels[rows] + shifts) % len(CLASSES)
    return rows


def prepare(data: Path, seed: int) -> np.ndarray:
    """Writes data/prepared; returns the rows of train whose labels are flipped."""
    rng = np.random.default_rng(seed)
    images, labels = load_split(data, "train")
    drawn = rng.permutation(len(labels))[: TRAIN + VALIDATION]
    images, labels = images[drawn], labels[drawn]
    flipped = flip(labels[:TRAIN], rng)
    flip(labels[TRAIN:], rng)
    splits = {
        "train": Examples(images[:TRAIN], labels[:TRAIN]),
        "validation": Examples(images[TRAIN:], labels[TRAIN:]),
        "test": Examples(*load_split(data, "test")),
    }
    source = Source.of_splits("fashion_mnist", CLASSES, splits)
    with atomic_commit() as outputs:
        save_prepared(source, splits, outputs)
    return flipped


def run(data: Path, seed: int) -> tuple[int, int]:
    """How many flipped labels are found, and how many there are."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "project"
        make_project(folder, None, {**RECIPE, "seed": seed})
        with chdir(folder):
            flipped = prepare(data, seed)
        print(finish(start(folder, "stages.folds")), end="", flush=True)
        content = (folder / "metrics/doubtful_labels.csv").read_text()
    rows = [int(row["row"]) for row in csv.DictReader(content.splitlines())]
    found = np.isin(flipped, rows[: round(LOOKED_AT * TRAIN)])
    return int(found.sum()), len(flipped)


def main() -> None:
    """Runs each seed; prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    cells = []
    for seed in range(options.seeds):
        found, flipped = run(options.data.resolve(), seed)
        share = f"{found} of {flipped} ({found / flipped:.1%})"
        cells.append([str(seed), share])
        print(f"seed {seed}: {share}", flush=True)
    text = table(["seed", "flipped labels among the first 7 %"], cells)
    print(text)
    replace_section("doubtful", text)


if __name__ == "__main__":
    main()
