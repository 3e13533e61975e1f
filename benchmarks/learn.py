"""Trains with the tutorial's whole recipe, in its own process.

`python -m benchmarks.learn CONTESTANT SEED FOLDER` takes 5,000 steps at batch 32. It
prints the validation accuracy after each 1,000 steps, then the test accuracy.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.task import SIDE, load_split

ROUNDS, STEPS, BATCH = 5, 1000, 32
EVALUATION_BATCH = 1000  # divides both splits (6,000 and 10,000)


def order(count: int, seed: int) -> np.ndarray:
    """Row indices of each round; within an epoch each example occurs once."""
    rng = np.random.default_rng(seed)
    needed = ROUNDS * STEPS * BATCH
    return np.concatenate([rng.permutation(count) for _ in range(-(-needed // count))])[
        :needed
    ].reshape(ROUNDS, STEPS * BATCH)


def article(folder: Path, seed: int) -> Iterator[float]:
    """Trains with the tutorial's loop; yields validation accuracies, then test."""
    from benchmarks.contestants.article import (
        batches,
        eval_step,
        network,
        tools,
        train_step,
    )

    model = network("cnn", seed)
    optimizer, metrics = tools(model)
    images, labels = load_split(folder, "train")
    for rows in [*order(len(labels), seed), None]:
        if rows is not None:
            metrics.reset()
            for batch in batches(images[rows], labels[rows], BATCH).as_numpy_iterator():
                train_step(model, optimizer, metrics, batch)
        metrics.reset()
        scored = load_split(folder, "test" if rows is None else "validation")
        for batch in batches(*scored, EVALUATION_BATCH).as_numpy_iterator():
            eval_step(model, metrics, batch)
        yield float(metrics.compute()["accuracy"])


def keras(folder: Path, seed: int) -> Iterator[float]:
    """Trains with Keras `fit`; yields validation accuracies, then test."""
    from keras.utils import set_random_seed

    from benchmarks.contestants.keras_fit import compile_network, network

    set_random_seed(seed)
    model = network("cnn", SIDE)
    # 25 divides 1,000 steps; 32, as in bench.py, does not.
    compile_network(model, steps_per_execution=25)
    images, labels = load_split(folder, "train")
    images = images.astype(np.float32) / 255
    for rows in [*order(len(labels), seed), None]:
        if rows is not None:
            x, y = images[rows], labels[rows]
            model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
        scored, answers = load_split(folder, "test" if rows is None else "validation")
        floats = scored.astype(np.float32) / 255
        _, accuracy = model.evaluate(floats, answers, EVALUATION_BATCH, verbose=0)
        yield float(accuracy)


def main() -> None:
    """Prints the accuracy of each evaluation."""
    contestant, seed, folder = sys.argv[1:]
    run = {"article": article, "keras": keras}[contestant]
    for accuracy in run(Path(folder), int(seed)):
        print(f"accuracy {accuracy:.4f}", flush=True)


if __name__ == "__main__":
    main()
