"""`make bench-scaling`: startup time, and speed with more data and devices.

The parts: startup time (`costs`), more data (`sizes`), more devices and processes
(`devices`), and larger machines, computed (`paper`). `--only` selects parts. Writes
scaling.json and the tables in README.md.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import devices, paper, sizes
from benchmarks.project import FASHION, ROOT, finish, make_project, start
from benchmarks.sections import replace_section, table
from benchmarks.task import PREPARED

RESULTS = Path(__file__).parent / "scaling.json"
RECIPE = {**FASHION, "batch_size": 64, "epochs": 2}
ROUNDS = 3  # of the costs
PARTS = "paper", "costs", "devices", "sizes"


def measure_costs(prepared: Path, values: dict[str, Any]) -> dict[str, float]:
    """The median seconds of each part over several processes."""
    found = []
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "project"
        make_project(folder, prepared, values)
        for _ in range(ROUNDS):
            output = finish(start(folder, "benchmarks.costs"))
            found.append(json.loads(output.splitlines()[-1]))
    return {part: statistics.median(run[part] for run in found) for part in found[0]}


def render_costs(costs: dict[str, dict[str, float]]) -> str:
    """A row per part of the startup."""
    parts = list(next(iter(costs.values())))
    rows = [[part, *(f"{run[part]:.4f}" for run in costs.values())] for part in parts]
    return table(["seconds", *costs], rows)


def run(part: str, data: Path) -> tuple[dict[str, Any], str]:
    """Runs a part; returns its results and their table."""
    if part == "costs":
        costs = {
            "digits, the defaults": measure_costs(ROOT / PREPARED, {}),
            "fashion_mnist, cnn, batch 64": measure_costs(data / PREPARED, RECIPE),
        }
        return costs, render_costs(costs)
    if part == "sizes":
        grown = sizes.measure(data)
        return grown, sizes.render(grown)
    if part == "devices":
        compared = devices.measure(data)
        return compared, devices.render(compared)
    computed = paper.measure()
    return computed, paper.render(computed)


def main() -> None:
    """Runs the parts; prints and writes the results after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    for part in options.only:
        found, text = run(part, options.data.resolve())
        print(text, flush=True)
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(results | {part: found}, indent=2) + "\n")
        replace_section(part, text)


if __name__ == "__main__":
    main()
