"""Whether Fourbeat and the article's loop do the same work.

From the same weights, over the same batches, with the same recipe: 200 steps of losses.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks.contestants import article, fourbeat
from benchmarks.task import Task

STEPS = 200
# Two ways of rounding drift apart as training goes on: the first steps must agree
# closely, the curve as a whole within this share of the loss.
FIRST, CLOSE, WHOLE = 10, 1e-5, 0.05


def main() -> int:
    """Compares, prints; 1 where the curves differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    code = 0
    for model in ("mlp", "cnn", "cnn_max"):
        task = Task(model, 32, folder)
        ours = np.array(fourbeat.build(task, log_every=1)(STEPS)())
        theirs = np.array(article.build(task)(STEPS)())
        difference = np.abs(ours - theirs)
        first, whole = difference[:FIRST].max(), difference.mean() / theirs.mean()
        print(
            f"{model}: losses over {STEPS} steps differ by at most {first:.1e} in the "
            f"first {FIRST}, by {whole:.2%} of the mean loss on average"
        )
        if not (first <= CLOSE and whole <= WHOLE):
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
