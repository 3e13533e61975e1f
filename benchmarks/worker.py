"""Runs one contestant in its own process and trains on request.

Reads a number of steps per line and answers with a line of JSON: seconds and losses. It
uses no processor time between turns.
"""

import importlib
import json
import sys
import time
from pathlib import Path

from benchmarks.task import Task


def main() -> None:
    """Builds the contestant, then takes turns until stdin ends."""
    contestant, model, side, batch, folder = sys.argv[1:]
    module = importlib.import_module(f"benchmarks.contestants.{contestant}")
    prepare = module.build(Task(model, int(batch), Path(folder), int(side)))
    for line in sys.stdin:
        run = prepare(int(line))  # prepares the batches; not timed
        started = time.perf_counter()
        losses = run()
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "losses": losses}), flush=True)


if __name__ == "__main__":
    main()
