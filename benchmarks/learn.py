"""The article's recipe from beginning to end, in a process of its own.

Five times 1,000 steps at batch 32; prints the validation accuracy after each thousand,
and the test accuracy at the end: `python -m benchmarks.learn CONTESTANT SEED FOLDER`.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.task import load_split

ROUNDS, STEPS, BATCH = 5, 1000, 32
EVALUATION_BATCH = 1000  # divides 6,000 and 10,000: no example is left out


def order(count: int, seed: int) -> np.ndarray:
    """The examples of all steps: epochs without repeats."""
    rng = np.random.default_rng(seed)
    needed = ROUNDS * STEPS * BATCH
    return np.concatenate([rng.permutation(count) for _ in range(-(-needed // count))])[
        :needed
    ].reshape(ROUNDS, STEPS * BATCH)


def article(folder: Path, seed: int) -> Iterator[float]:
    """The tutorial's loop; validation accuracies, then the test accuracy."""
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
    """Keras `fit`; validation accuracies, then the test accuracy."""
    from keras.utils import set_random_seed

    from benchmarks.contestants.keras_fit import compile_network, network

    set_random_seed(seed)
    model = network("cnn")
    # 1,000 steps do not divide by 32 steps per execution.
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
    """Prints a line per evaluation."""
    contestant, seed, folder = sys.argv[1:]
    run = {"article": article, "keras": keras}[contestant]
    for accuracy in run(Path(folder), int(seed)):
        print(f"accuracy {accuracy:.4f}", flush=True)


if __name__ == "__main__":
    main()
