"""Checks that Fourbeat and the tutorial's loop do the same work.

Compares the losses of 200 steps with the same weights, batches and recipe.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks.contestants import article, fourbeat
from benchmarks.task import CONFIGURATIONS, Task

STEPS = 200
# Differences in rounding grow during training. So the first steps must agree closely,
# and the mean difference over all steps may be a share of the mean loss.
FIRST_TOLERANCE, MEAN_TOLERANCE = 1e-5, 0.05
FIRST_STEPS = {"mlp": 10, "cnn": 10, "cnn_max": 10, "resnet": 3}  # of BatchNorm: fewer


def main() -> int:
    """Compares and prints the losses; returns 1 if they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    code = 0
    for model, side in CONFIGURATIONS:
        task = Task(model, 32, folder, side)
        ours = np.array(fourbeat.build(task, log_every=1)(STEPS)())
        theirs = np.array(article.build(task)(STEPS)())
        difference = np.abs(ours - theirs)
        steps = FIRST_STEPS[model]
        first = difference[:steps].max()
        mean = difference.mean() / theirs.mean()
        print(
            f"{model}, {side} pixels: losses over {STEPS} steps differ by at most "
            f"{first:.1e} in the first {steps}, on average by {mean:.2%} of the "
            "mean loss"
        )
        if not (first <= FIRST_TOLERANCE and mean <= MEAN_TOLERANCE):
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
