"""Times the parts of a run's start: `python -m benchmarks.costs`.

Runs in a folder with params.yaml and data/prepared. Prints a line of JSON with the
seconds of each part, from the start of the process.
"""

import json
import os
import time
from pathlib import Path

BEGAN = time.perf_counter()


def since_process_start() -> float:
    """Seconds from the start of this process until this module was run."""
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    ticks = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return max(uptime - ticks - (time.perf_counter() - BEGAN), 0.0)


def main() -> None:
    """Does what the train stage does, and times each part."""
    costs = {"start of Python": since_process_start()}
    last = BEGAN

    def lap(part: str) -> None:
        nonlocal last
        now = time.perf_counter()
        costs[part] = now - last
        last = now

    from src import paths
    from src.config.load import load_params
    from src.data.prepared import load_manifest
    from src.runtime.cpu_devices import set_cpu_devices

    params = load_params(paths.PARAMS)
    lap("parameters")
    manifest = load_manifest()
    set_cpu_devices(params, manifest.image_shape)
    import jax

    from src.sharding import on_all_devices
    from src.training.data import count_steps, load_train_data
    from src.training.events import EpochEnd, LogRow
    from src.training.loop import fit
    from src.training.state import build_state, choose_architecture

    # For good: all that follows runs on these devices.
    on_all_devices(params).__enter__()
    lap("imports")
    architecture = choose_architecture(params, manifest)
    data = load_train_data(manifest, params)
    jax.block_until_ready(data.train.examples)
    lap("data to the device")
    examples = len(data.train)
    steps = count_steps(examples, params.batch_size)
    graphdef, state = build_state(params, architecture, steps)
    jax.block_until_ready(state)
    lap("first weights")
    events = fit(state, graphdef, data, params)
    next(event for event in events if isinstance(event, LogRow))
    lap("first chunk, with tracing and compilation")
    costs["from the start to the first finished chunk"] = sum(costs.values())
    epoch = next(event for event in events if isinstance(event, EpochEnd))
    lap("the rest of the first epoch, with the first evaluation")
    chunk = next(event for event in events if isinstance(event, LogRow))
    lap("a step in the steady state")
    costs["a step in the steady state"] /= chunk.step - epoch.result.step
    print(json.dumps(costs))


if __name__ == "__main__":
    main()
