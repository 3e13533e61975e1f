"""One contestant in a process of its own, which trains when it is told to.

Reads a number of steps per line, answers each with a line of JSON: the seconds they
took, and the losses. Between its turns it waits and costs nothing.
"""

import importlib
import json
import sys
import time
from pathlib import Path

from benchmarks.task import Task


def main() -> None:
    """Builds the contestant, then serves turns until the input ends."""
    contestant, model, batch, folder = sys.argv[1:]
    module = importlib.import_module(f"benchmarks.contestants.{contestant}")
    prepare = module.build(Task(model, int(batch), Path(folder)))
    for line in sys.stdin:
        run = prepare(int(line))  # lays the batches out: not what is compared
        started = time.perf_counter()
        losses = run()
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "losses": losses}), flush=True)


if __name__ == "__main__":
    main()
