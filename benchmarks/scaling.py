"""`make bench-scaling`: what a run costs, and how that grows with the data.

Time per epoch and peak memory of the train stage over 10k, 60k and 600k images, and
what each part of a run costs. Writes scaling.json and the tables in README.md.
"""

import argparse
import json
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.project import FASHION, ROOT, finish, make_project, start
from benchmarks.sections import replace_section, table
from benchmarks.task import PREPARED

HERE = Path(__file__).parent
SIZES = 10_000, 60_000, 600_000
RECIPE = {**FASHION, "batch_size": 64, "epochs": 2}
ROUNDS = 3  # of the costs


def peak_megabytes(process: int) -> float:
    """The most memory that the process has held so far, in MB of 10^6 bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def grow(data: Path, count: int) -> dict[str, float]:
    """Trains twice over `count` examples; seconds per epoch and peak memory."""
    with tempfile.TemporaryDirectory() as parent:
        repeated, folder = Path(parent) / "data", Path(parent) / "project"
        names = str(data.resolve()), str(repeated), str(count)
        finish(start(ROOT, "benchmarks.data", *names))
        make_project(folder, repeated / PREPARED, RECIPE)
        process = start(folder, "stages.train")
        times, memory = [], 0.0
        for line in process.stdout or ():
            if line.startswith("epoch"):
                times.append(time.perf_counter())
                memory = max(memory, peak_megabytes(process.pid))
        finish(process)
    return {
        "seconds_per_epoch": times[1] - times[0],
        "peak_megabytes": memory,
        "pixels_megabytes": count * 784 / 1e6,
    }


def measure_costs(prepared: Path, values: dict[str, Any]) -> dict[str, float]:
    """The median cost of each part over a few processes."""
    found = []
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "project"
        make_project(folder, prepared, values)
        for _ in range(ROUNDS):
            output = finish(start(folder, "benchmarks.costs"))
            found.append(json.loads(output.splitlines()[-1]))
    return {part: statistics.median(run[part] for run in found) for part in found[0]}


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    costs = {
        "digits, the defaults": measure_costs(ROOT / PREPARED, {}),
        "fashion_mnist, cnn, batch 64": measure_costs(data / PREPARED, RECIPE),
    }
    growth = {str(count): grow(data, count) for count in SIZES}
    results = {"costs": costs, "growth": growth}
    (HERE / "scaling.json").write_text(json.dumps(results, indent=2) + "\n")
    growth_rows = [
        [
            f"{int(count):,}",
            f"{row['seconds_per_epoch']:.2f}",
            f"{int(count) / row['seconds_per_epoch']:,.0f}",
            f"{row['pixels_megabytes']:,.0f}",
            f"{row['peak_megabytes']:,.0f}",
        ]
        for count, row in growth.items()
    ]
    head = ["examples", "s per epoch", "images/s", "MB of pixels", "MB at the peak"]
    parts = list(next(iter(costs.values())))
    cost_rows = [
        [part, *(f"{run[part]:.4f}" for run in costs.values())] for part in parts
    ]
    text = "\n\n".join(
        [table(head, growth_rows), table(["seconds", *costs], cost_rows)]
    )
    print(text)
    replace_section("scaling", text)


if __name__ == "__main__":
    main()
