"""Speed and memory with up to six million examples.

Runs the prepare stage on repeated Fashion-MNIST images, given as arrays. Then it runs
the train stage to measure its memory. For the speed, a streamed and a resident run take
turns.
"""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.project import (
    FASHION,
    ROOT,
    finish,
    finish_measured,
    make_project,
    start,
)
from benchmarks.race import Run, Spread, format_spread, race
from benchmarks.sections import table
from benchmarks.task import PREPARED

SIZES = 60_000, 600_000, 6_000_000
BATCH, STEPS = 64, 200  # steps of the run whose memory is measured
# More epochs than the benchmark takes.
RECIPE = {**FASHION, "batch_size": BATCH, "epochs": 1000}
# `resident_megabytes`: below the size of every split, and above it.
MODES = {"streamed": 1, "resident": 100_000}
COPIES = 3  # memory for a resident split: two copies during loading, and a reserve
ROUNDS, TURN_SECONDS = 5, 3.0
PIXELS = 784


def measure(data: Path) -> dict[str, Any]:
    """A row for each size."""
    return {str(count): measure_size(data, count) for count in SIZES}


def measure_size(data: Path, count: int) -> dict[str, Any]:
    """Seconds, megabytes and images/s of preparing and training."""
    with tempfile.TemporaryDirectory() as parent:
        arrays, folder = Path(parent) / "arrays", Path(parent) / "prepare"
        finish(start(ROOT, "benchmarks.data", str(data), str(arrays), str(count)))
        source = {"dataset": "npz", "data_path": arrays}
        make_project(folder, None, {**RECIPE, **source})
        began = time.perf_counter()
        memory = finish_measured(start(folder, "stages.prepare"))
        row: dict[str, Any] = {
            "prepare_seconds": time.perf_counter() - began,
            "prepare_megabytes": memory,
            "pixels_megabytes": count * PIXELS / 1e6,
        }
        shutil.rmtree(arrays)
        modes = [mode for mode in MODES if mode == "streamed" or fits(count)]
        for mode in modes:
            values = {**RECIPE, "resident_megabytes": MODES[mode]}
            make_project(Path(parent) / mode, folder / PREPARED, values)
            row[f"{mode}_megabytes"] = train_megabytes(folder / PREPARED, values)
        row |= compare(Path(parent), modes)
    print(count, row, flush=True)
    return row


def fits(count: int) -> bool:
    """Whether this machine has the memory for a resident run of `count` examples."""
    fields = Path("/proc/meminfo").read_text().split()
    free = int(fields[fields.index("MemAvailable:") + 1]) * 1024
    return COPIES * count * PIXELS < free


def train_megabytes(prepared: Path, values: dict[str, Any]) -> float:
    """The peak memory of the train stage."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "project"
        make_project(folder, prepared, {**values, "max_steps": STEPS})
        return finish_measured(start(folder, "stages.train"))


def compare(parent: Path, modes: list[str]) -> dict[str, Any]:
    """Images/s of each mode, and the ratio of streamed to resident."""
    runs = {mode: Run(parent / mode) for mode in modes}
    for run in runs.values():
        run.turn(STEPS)
    rates = race(runs, seconds=TURN_SECONDS, rounds=ROUNDS, batch=BATCH)
    for run in runs.values():
        run.stop()
    found: dict[str, Any] = {f"{mode}_images": Spread.of(rates[mode]) for mode in modes}
    if "resident" in rates:
        pairs = zip(rates["streamed"], rates["resident"], strict=True)
        found["ratio"] = Spread.of([mine / theirs for mine, theirs in pairs])
    return found


def render(results: dict[str, Any]) -> str:
    """A row per size."""
    head = [
        "examples",
        "MB of pixels",
        "prepare: seconds",
        "prepare: peak MB",
        "images/s, streamed",
        "images/s, resident",
        "streamed / resident",
        "train, streamed: peak MB",
        "train, resident: peak MB",
    ]
    rows = [
        [
            f"{int(count):,}",
            f"{row['pixels_megabytes']:,.0f}",
            f"{row['prepare_seconds']:.1f}",
            f"{row['prepare_megabytes']:,.0f}",
            format_spread(row["streamed_images"]),
            format_spread(row["resident_images"]) if "ratio" in row else "too large",
            format_spread(row["ratio"], ".3f") if "ratio" in row else "",
            f"{row['streamed_megabytes']:,.0f}",
            f"{row['resident_megabytes']:,.0f}" if "ratio" in row else "",
        ]
        for count, row in results.items()
    ]
    return table(head, rows)
