"""Checks that Fourbeat, the tutorial's loop and `jax.jit` per step do the same work.

Compares the losses of 200 steps with the same weights, batches and recipe. A process
for each network, with as many devices as its training has.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.task import CONFIGURATIONS, Task, devices

BATCH, STEPS = 32, 200
# Differences in rounding grow during training. So the first steps must agree closely,
# and the mean difference over all steps may be a share of the mean loss.
FIRST_TOLERANCE, MEAN_TOLERANCE = 1e-5, 0.05
FIRST_STEPS = {"mlp": 10, "cnn": 10, "cnn_max": 10, "resnet": 3}  # of BatchNorm: fewer


def compare(task: Task) -> bool:
    """Compares and prints the losses; returns whether they agree."""
    # Imported late: JAX reads the number of devices when it is imported.
    from benchmarks.contestants import article, fourbeat, jax_step

    ours = np.array(fourbeat.build(task, log_every=1)(STEPS)())
    agree, first = True, FIRST_STEPS[task.model]
    for name, module in (("the tutorial's loop", article), ("jax.jit", jax_step)):
        theirs = np.array(module.build(task)(STEPS)())
        difference = np.abs(ours - theirs)
        largest, mean = difference[:first].max(), difference.mean() / theirs.mean()
        print(
            f"{task.model}, {task.side} pixels, {name}: losses over {STEPS} steps "
            f"differ by at most {largest:.1e} in the first {first}, on average by "
            f"{mean:.2%} of the mean loss",
            flush=True,
        )
        agree &= largest <= FIRST_TOLERANCE and mean <= MEAN_TOLERANCE
    return agree


def main() -> int:
    """Compares one network, or all; returns 1 if losses differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs=2, metavar=("MODEL", "SIDE"))
    options = parser.parse_args()
    if options.only:
        model, side = options.only
        return not compare(Task(model, BATCH, options.data, int(side)))
    code = 0
    for model, side in CONFIGURATIONS:
        command = [sys.executable, "-m", "benchmarks.equal_work", "--data"]
        command += [options.data, "--only", model, str(side)]
        environment = devices(Task(model, BATCH, options.data, side))
        code |= subprocess.run(command, env=os.environ | environment).returncode
    return code


if __name__ == "__main__":
    sys.exit(main())
