"""Compares one device, two in one process, and two processes on the same cores."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.project import FASHION, make_project
from benchmarks.race import (
    Environment,
    Run,
    Spread,
    format_spread,
    group_environments,
    race,
)
from benchmarks.sections import table
from benchmarks.task import PREPARED
from src.runtime.cpu_devices import VARIABLE

CASES = [(model, batch) for model in ("mlp", "cnn") for batch in (128, 256)]
RECIPE = {**FASHION, "schedule": "constant", "epochs": 1000}
FORCED = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
ALONE = "1 process, 1 device"
COMPARED_STEPS = 200  # whose losses are compared
ROUNDS, TURN_SECONDS = 5, 1.5


def setups() -> dict[str, list[Environment]]:
    """The environments of each set-up's processes."""
    return {
        ALONE: [{VARIABLE: "1"}],
        "1 process, 2 devices": [FORCED],
        "2 processes": [*group_environments(2)],
        "2 processes, FOURBEAT_JOBS=2": [
            {**environment, "FOURBEAT_JOBS": "2"}
            for environment in group_environments(2)
        ],
    }


def measure(data: Path) -> dict[str, Any]:
    """A row per set-up, for each network and batch size."""
    return {f"{model}, {batch}": compare(data, model, batch) for model, batch in CASES}


def compare(data: Path, model: str, batch: int) -> dict[str, Any]:
    """Speed, ratio to one device, and loss difference."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "project"
        values = {**RECIPE, "model": model, "batch_size": batch}
        make_project(folder, data / PREPARED, values)
        runs = {name: Run(folder, found) for name, found in setups().items()}
        losses = {
            name: run.turn(COMPARED_STEPS)["losses"] for name, run in runs.items()
        }
        rates = race(runs, seconds=TURN_SECONDS, rounds=ROUNDS, batch=batch)
        for run in runs.values():
            run.stop()
    rows = {}
    for name in setups():
        pairs = zip(rates[name], rates[ALONE], strict=True)
        speed = Spread.of(rates[name])
        rows[name] = {
            "images": speed,
            "ratio": Spread.of([mine / theirs for mine, theirs in pairs]),
            "loss_difference": largest_difference(losses[name], losses[ALONE]),
        }
    print(model, batch, rows, flush=True)
    return rows


def largest_difference(losses: list[float], others: list[float]) -> float:
    """The largest difference, relative to the loss in `others`."""
    pairs = zip(losses, others, strict=True)
    return max(abs(mine - theirs) / theirs for mine, theirs in pairs)


def render(results: dict[str, Any]) -> str:
    """A row per configuration and set-up."""
    head = [
        "network, batch",
        "on the same two cores",
        "images/s, median (min - max)",
        "relative to one device",
        f"largest loss difference in {COMPARED_STEPS} steps",
    ]
    rows = []
    for configuration, compared in results.items():
        for name, row in compared.items():
            alone = name == ALONE
            others = [
                format_spread(row["ratio"], ".2f"),
                f"{row['loss_difference']:.1e}",
            ]
            speed = format_spread(row["images"])
            cells = ["1", ""] if alone else others
            rows.append([configuration, name, speed, *cells])
    return table(head, rows)
