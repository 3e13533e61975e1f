"""Speed and memory against the number of examples, up to six million.

Fashion-MNIST, over and over, goes through the stage prepare as anyone's arrays would.
Then the stage train is run for its memory, and trained in turns, from disk and from
the device, for its speed.
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
from benchmarks.race import Run, Spread, race, shown
from benchmarks.sections import table
from benchmarks.task import PREPARED

SIZES = 60_000, 600_000, 6_000_000
BATCH, STEPS = 64, 200  # steps of the run that is measured for its memory
RECIPE = {**FASHION, "batch_size": BATCH, "epochs": 1000}  # a run never ends
# `resident_megabytes`: no split is as small, and none as large.
MODES = {"streamed": 1, "resident": 100_000}
COPIES = 3  # what a resident split needs at the start: two copies, and room
ROUNDS, TURN_SECONDS = 5, 3.0
PIXELS = 784


def measure(data: Path) -> dict[str, Any]:
    """A row for each size."""
    return {str(count): grow(data, count) for count in SIZES}


def grow(data: Path, count: int) -> dict[str, Any]:
    """Prepares, trains; seconds, megabytes and images per second."""
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
    """Whether this machine has the memory to train on so many from the device."""
    fields = Path("/proc/meminfo").read_text().split()
    free = int(fields[fields.index("MemAvailable:") + 1]) * 1024
    return COPIES * count * PIXELS < free


def train_megabytes(prepared: Path, values: dict[str, Any]) -> float:
    """The most memory that the stage train holds."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "project"
        make_project(folder, prepared, {**values, "max_steps": STEPS})
        return finish_measured(start(folder, "stages.train"))


def compare(parent: Path, modes: list[str]) -> dict[str, Any]:
    """Images per second of each mode, and what streaming keeps of the resident's."""
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
    """The results, a row per size."""
    head = [
        "examples",
        "MB of pixels",
        "prepare: s",
        "prepare: MB at the peak",
        "images/s from disk",
        "images/s from the device",
        "from disk / from the device",
        "train from disk: MB at the peak",
        "train from the device: MB",
    ]
    rows = [
        [
            f"{int(count):,}",
            f"{row['pixels_megabytes']:,.0f}",
            f"{row['prepare_seconds']:.1f}",
            f"{row['prepare_megabytes']:,.0f}",
            shown(row["streamed_images"]),
            shown(row["resident_images"]) if "ratio" in row else "too large",
            shown(row["ratio"], ".3f") if "ratio" in row else "",
            f"{row['streamed_megabytes']:,.0f}",
            f"{row['resident_megabytes']:,.0f}" if "ratio" in row else "",
        ]
        for count, row in results.items()
    ]
    return table(head, rows)
