"""Trains like the train stage, in turns and without its outputs.

`python -m benchmarks.turns` runs in a folder with params.yaml and data/prepared, in one
process or in one of several. It reads a number of steps per line. Its answer is a line
of JSON: steps, seconds, and the losses of steps.csv.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from src import paths
from src.config.load import load_params
from src.config.params import Params
from src.data.prepared import Manifest, load_manifest
from src.runtime.cores import share_cores
from src.runtime.cpu_devices import set_cpu_devices
from src.runtime.determinism import pin_arithmetic
from src.runtime.processes import init_distributed


class Turns:
    """A run's events and the number of steps taken."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.events, self.step = events, 0

    def take(self, steps: int) -> dict[str, Any]:
        """Takes at least `steps` steps, up to the next row of steps.csv.

        The time of validation does not count.
        """
        from src.training.events import EpochEnd, LogRow

        first, seconds, losses = self.step, 0.0, []
        last = time.perf_counter()
        for event in self.events:
            now = time.perf_counter()
            if isinstance(event, EpochEnd):
                last = now
            if isinstance(event, LogRow):
                seconds, last, self.step = seconds + now - last, now, event.step
                losses.append(event.train.loss if event.train else None)
                if self.step - first >= steps:
                    break
        return {"steps": self.step - first, "seconds": seconds, "losses": losses}


def start(params: Params, manifest: Manifest) -> Turns:
    """Builds the run as the train stage does."""
    from src.runtime.processes import broadcast_arrays
    from src.training.data import count_steps, load_train_data
    from src.training.loop import fit
    from src.training.state import build_state, choose_architecture

    architecture = choose_architecture(params, manifest)
    data = load_train_data(manifest, params)
    steps = count_steps(len(data.train), params.batch_size)
    graphdef, state = build_state(params, architecture, steps)
    return Turns(fit(broadcast_arrays(state), graphdef, data, params))


def main() -> None:
    """Takes turns until stdin ends."""
    params = load_params(paths.PARAMS)
    share_cores()
    pin_arithmetic(params)
    init_distributed()
    manifest = load_manifest()
    set_cpu_devices(params, manifest.image_shape)
    from src.sharding import on_all_devices

    with on_all_devices(params):
        turns = start(params, manifest)
        for line in sys.stdin:
            print(json.dumps(turns.take(int(line))), flush=True)


if __name__ == "__main__":
    main()
