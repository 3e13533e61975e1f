"""`stages.search` against a grid, on 10,000 examples of Fashion-MNIST.

    python -m benchmarks.search --data FOLDER-WITH-THE-ARCHIVES --seeds 3

Both train `cnn` for at most 5 epochs, with two workers on half of the cores each, and
by the same function; in the grid no trial is stopped. Writes search.json and the table
in README.md.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from benchmarks.project import FASHION, finish, make_project, start
from benchmarks.sections import replace_section, table
from src import paths
from src.config.load import load_params
from src.data.prepared import load_manifest
from src.experiments.search_devices import reserve_devices
from src.experiments.search_space import parse_space
from src.experiments.search_study import SearchStudy
from src.runtime.cores import JOBS, share_cores

HERE = Path(__file__).parent
WORKERS = 2
RATES = 10  # in the grid, from LOW to HIGH with equal ratios
LOW, HIGH = 1e-4, 1e-1
SIZES = "batch_size=32,64,128"
VALUES = {
    **FASHION,
    "dataset": "idx",
    "model": "cnn",
    "limit_examples": 10_000,
    "epochs": 5,
}
SEARCH, GRID = "search, 30 trials", "grid, 10 x 3"
Run = dict[str, float]


class GridStudy(SearchStudy):
    """A study that stops no trial."""

    def report(self, trial: FrozenTrial, epoch: int, value: float, epochs: int) -> bool:
        """Stores the value of an epoch."""
        super().report(trial, epoch, value, epochs)
        return False


def work_on_grid(rates: int) -> None:
    """Works on all points of the grid, as a worker of `stages.search` does."""
    params = load_params(paths.PARAMS)
    share_cores()
    fewer = reserve_devices(params)
    from src.experiments.search import work

    listed = ",".join(f"{rate:.4g}" for rate in np.geomspace(LOW, HIGH, rates))
    space = parse_space([f"lr={listed}", SIZES], params)
    study = GridStudy(Path(".search/grid.db"), space, params)
    work(study, load_manifest(), sys.maxsize, fewer)


def run_search(folder: Path, trials: int) -> Run:
    """Searches; returns the best validation loss and the seconds."""
    space = f"lr={LOW:g}..{HIGH:g}", SIZES
    options = "--trials", str(trials), "--workers", str(WORKERS), "--name", "search"
    began = time.perf_counter()
    finish(start(folder, "stages.search", *space, *options))
    return result(folder, "search", began)


def run_grid(folder: Path, rates: int) -> Run:
    """Trains on all points; returns the best validation loss and the seconds."""
    command = "benchmarks.search", "--grid", str(rates)
    began = time.perf_counter()
    workers = [start(folder, *command, **{JOBS: str(WORKERS)}) for _ in range(WORKERS)]
    for worker in workers:
        finish(worker)
    return result(folder, "grid", began)


def result(folder: Path, name: str, began: float) -> Run:
    """What a study has found, and what it took."""
    seconds = time.perf_counter() - began
    url = f"sqlite:///{folder}/.search/{name}.db"
    study = optuna.load_study(study_name="search", storage=url)
    epochs = sum(len(trial.intermediate_values) for trial in study.trials)
    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    return {
        "loss": study.best_value,
        "seconds": seconds,
        "trials": len(study.trials),
        "finished": len(finished),
        "epochs": epochs,
    }


def render(runs: list[dict[str, Run]]) -> str:
    """A row per contestant: medians over the seeds, and each seed."""
    rows = []
    for name in (SEARCH, GRID):
        losses = [run[name]["loss"] for run in runs]
        seconds = [run[name]["seconds"] for run in runs]
        epochs = [run[name]["epochs"] for run in runs]
        rows.append(
            [
                name,
                f"{statistics.median(losses):.4f}",
                ", ".join(f"{loss:.4f}" for loss in losses),
                f"{statistics.median(epochs):.0f}",
                f"{statistics.median(seconds):.0f}",
            ]
        )
    shares = [run[SEARCH]["seconds"] / run[GRID]["seconds"] for run in runs]
    rows.append(["share of the time", "", "", "", f"{statistics.median(shares):.2f}"])
    head = "", "best validation loss", "by seed", "epochs trained", "seconds"
    return table(head, rows)


def main() -> None:
    """Runs both with every seed; prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, help="with Fashion-MNIST's four archives")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=30, help="for a quick look")
    parser.add_argument("--rates", type=int, default=RATES, help="for a quick look")
    parser.add_argument("--grid", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.grid:
        work_on_grid(options.grid)
        return
    names = "jax", "flax", "optax", "numpy", "optuna"
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in names},
        "runs": [],
    }
    with tempfile.TemporaryDirectory() as parent:
        first = Path(parent, "prepared")
        make_project(first, None, {**VALUES, "data_path": options.data.resolve()})
        finish(start(first, "stages.prepare"))
        for seed in range(options.seeds):
            folder = Path(parent, str(seed))
            make_project(folder, first / "data/prepared", {**VALUES, "seed": seed})
            run = {
                SEARCH: run_search(folder, options.trials),
                GRID: run_grid(folder, options.rates),
            }
            results["runs"].append(run)
            print(f"seed {seed}: {run}", flush=True)
    print(render(results["runs"]))
    if (options.trials, options.rates) == (30, RATES):
        (HERE / "search.json").write_text(json.dumps(results, indent=2) + "\n")
        replace_section("search", render(results["runs"]))


if __name__ == "__main__":
    main()
