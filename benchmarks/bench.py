"""`make bench`: training speed of all contestants with the same data and recipe.

Each contestant runs in its own process. In a round they train one after another for
about two seconds each, so a slow phase of the machine affects all of them. The figures
are medians over the rounds. Writes them to results.json, by class of machine, and the
tables of all classes to README.md; ratios also to FRONT_PAGE and RATIOS.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.machine import machine_name
from benchmarks.sections import replace_section, table
from benchmarks.task import (
    CONFIGURATIONS,
    FILTERS,
    SIDE,
    Task,
    devices,
    patch_side,
)

RESULTS = Path(__file__).parent / "results.json"
OURS, ARTICLE = "Fourbeat", "the tutorial's loop"
PEAK = "matrix product"
CONTESTANTS = {  # name: module, environment
    OURS: ("fourbeat", {}),
    ARTICLE: ("article", {}),
    "jax.jit per step": ("jax_step", {}),
    "Keras fit, TensorFlow": ("keras_fit", {"KERAS_BACKEND": "tensorflow"}),
    "Keras fit, JAX": ("keras_fit", {"KERAS_BACKEND": "jax"}),
    "PyTorch": ("torch_loop", {}),
    "PyTorch, compiled": ("torch_loop", {"FOURBEAT_TORCH_COMPILE": "1"}),
    PEAK: ("matmul", {}),
}
FRONT_PAGE = Path(__file__).parents[1] / "README.md"
RATIOS = Path(__file__).parents[1] / "docs/explanation/measurements.md"
TURN_SECONDS = 2.0
WARM_UP_STEPS = 96
MULTIPLY_ADD = 2

Results = dict[str, dict[str, dict[str, float]]]  # by configuration and contestant


def flops_per_image(model: str, side: int) -> int:
    """Floating-point operations of a training step per image: forward and backward."""
    if model == "resnet":
        patch = patch_side(side)
        pixels, filters = (side // patch) ** 2, FILTERS
        first, rest = pixels * 9 * 3 * patch**2 * filters, 0
        for stage in range(3):
            pixels, inputs, outputs = pixels // 4, filters, FILTERS << stage
            shortcut = inputs * outputs if stage else 0
            rest += pixels * (9 * inputs * outputs + 9 * outputs**2 + shortcut)
            filters = outputs
    elif model == "mlp":
        first, rest = 784 * 256, 256 * 10
    else:
        hidden = 256 if model == "cnn" else 128
        first = 784 * 9 * 32
        rest = 196 * 288 * 64 + 3136 * hidden + hidden * 10
    # The first layer needs no gradient with respect to the pixels: two products, not 3.
    return MULTIPLY_ADD * (2 * first + 3 * rest)


@dataclass
class Worker:
    """The process of a contestant."""

    name: str
    process: subprocess.Popen[str]
    errors: IO[str]  # what it writes to stderr
    steps: int = WARM_UP_STEPS

    @classmethod
    def start(
        cls, name: str, model: str, side: int, batch: int, folder: Path
    ) -> "Worker":
        """Starts the process without waiting until its network is built."""
        module, environment = CONTESTANTS[name]
        sizes = str(side), str(batch)
        command = ["-m", "benchmarks.worker", module, model, *sizes, str(folder)]
        if name == OURS:
            environment = devices(Task(model, batch, folder, side))
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        return cls(name, process, errors)

    def turn(self, steps: int) -> dict[str, Any]:
        """Lets it train `steps` steps; returns its seconds and losses."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is not None and stdout is not None and self.process.poll() is None:
            stdin.write(f"{steps}\n")
            stdin.flush()
            for line in stdout:
                if line.startswith("{"):
                    return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        raise SystemExit(f"{self.errors.read()}bench: {self.name} ended with {code}.")

    def stop(self) -> None:
        """Ends the process."""
        self.process.communicate()


def measure(
    model: str, side: int, batch: int, folder: Path, rounds: int
) -> dict[str, list[float]]:
    """Images/s of each contestant in each round; GFLOP/s of the matrix product."""
    workers = [Worker.start(name, model, side, batch, folder) for name in CONTESTANTS]
    for worker in workers:
        worker.turn(WARM_UP_STEPS)  # builds and compiles
    for worker in workers:
        # Repeated, because the fixed cost of a call distorts short turns.
        for _ in range(3):
            seconds = worker.turn(worker.steps)["seconds"]
            worker.steps = max(int(worker.steps * TURN_SECONDS / seconds), 32)
    found: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for number in range(rounds):
        # The order rotates, so that none always follows the same contestant.
        shift = number % len(workers)
        for worker in workers[shift:] + workers[:shift]:
            time.sleep(0.3)  # until the threads of the previous one sleep
            seconds = worker.turn(worker.steps)["seconds"]
            found[worker.name].append(worker.steps * batch / seconds)
    for worker in workers:
        worker.stop()
    # A step of the matrix product is 1 GFLOP for any batch size.
    found[PEAK] = [rate / batch for rate in found[PEAK]]
    return found


def summary(
    model: str, side: int, found: dict[str, list[float]]
) -> dict[str, dict[str, float]]:
    """Median, range, median ratio to Fourbeat, share of the matrix product's rate."""
    peak = statistics.median(found[PEAK]) * 1e9
    rows = {}
    for name, rates in found.items():
        ratios = [ours / rate for ours, rate in zip(found[OURS], rates, strict=True)]
        median = statistics.median(rates)
        rows[name] = {
            "median": median,
            "least": min(rates),
            "most": max(rates),
            "ours_is_faster_by": statistics.median(ratios),
            "share_of_peak": median * flops_per_image(model, side) / peak,
        }
    return rows


def speed_table(results: Results) -> str:
    """A row per configuration and contestant."""
    lines = []
    for configuration, rows in results.items():
        for name, row in rows.items():
            if name == PEAK:
                continue
            lines.append(
                [
                    configuration,
                    name,
                    f"{row['median']:,.0f} ({row['least']:,.0f} - {row['most']:,.0f})",
                    f"{row['ours_is_faster_by']:.2f}x",
                    f"{row['share_of_peak']:.0%}",
                ]
            )
        peak = rows[PEAK]
        rate = f"{peak['median']:.0f} GFLOP/s"
        spread = f"({peak['least']:.0f} - {peak['most']:.0f})"
        lines.append(
            [configuration, "matrix product 2048^3", f"{rate} {spread}", "", ""]
        )
    head = [
        "network, batch",
        "contestant",
        "images/s, median (min - max)",
        "Fourbeat is faster by",
        "share of peak",
    ]
    return table(head, lines)


def speed_tables(recorded: dict[str, Results]) -> str:
    """The table of each machine class."""
    tables = [f"{name}:\n\n{speed_table(rows)}" for name, rows in recorded.items()]
    return "\n\n".join(tables)


def ratio_table(recorded: dict[str, Results]) -> str:
    """How many times faster Fourbeat is than each other; ranges over the machines."""
    columns = configurations(recorded)
    lines = [
        [name, *(span(recorded, column, [name]) for column in columns)]
        for name in others()
    ]
    return table(["compared with", *columns], lines)


def fastest_table(recorded: dict[str, Results]) -> str:
    """How many times faster Fourbeat is than the fastest other; ranges as above."""
    networks: dict[str, dict[str, str]] = {}
    for column in configurations(recorded):
        network, batch = column.split(", ")
        networks.setdefault(network, {})[batch] = span(recorded, column, others())
    batches = list(dict.fromkeys(batch for row in networks.values() for batch in row))
    rows = [
        [network, *(row.get(batch, "") for batch in batches)]
        for network, row in networks.items()
    ]
    return table(["network", *(f"batch {batch}" for batch in batches)], rows)


def configurations(recorded: dict[str, Results]) -> list[str]:
    """The networks and batches, each once, in the order of `CONFIGURATIONS`."""
    names = [title(*each) for each in CONFIGURATIONS]

    def order(name: str) -> tuple[int, int]:
        network, batch = name.split(", ")
        return names.index(network), int(batch)

    return sorted({name for rows in recorded.values() for name in rows}, key=order)


def others() -> list[str]:
    """The contestants that Fourbeat is compared with."""
    return [name for name in CONTESTANTS if name not in (OURS, PEAK)]


def span(
    recorded: dict[str, Results], configuration: str, contestants: list[str]
) -> str:
    """The ratios of the machines to the fastest of the contestants, as "1.2 to 1.4"."""
    found = [
        min(rows[configuration][name]["ours_is_faster_by"] for name in present)
        for rows in recorded.values()
        if (present := [n for n in contestants if n in rows.get(configuration, {})])
    ]
    ends = [f"{each:.2f}" for each in (min(found), max(found))] if found else []
    return " to ".join(dict.fromkeys(ends))


def title(model: str, side: int) -> str:
    """What a table calls a network, as in "resnet 64x64"."""
    return model if side == SIDE else f"{model} {side}x{side}"


def main() -> None:
    """Measures, prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    names = {title(*each): each for each in CONFIGURATIONS}
    parser.add_argument("--models", nargs="+", choices=names, default=list(names))
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 128])
    options = parser.parse_args()
    results = {}
    for name in options.models:
        model, side = names[name]
        for batch in options.batches:
            found = measure(model, side, batch, options.data, options.rounds)
            results[f"{name}, {batch}"] = rows = summary(model, side, found)
            print(speed_table({f"{name}, {batch}": rows}), flush=True)
    recorded = json.loads(RESULTS.read_text())
    machine = machine_name()
    recorded[machine] = recorded.get(machine, {}) | results
    RESULTS.write_text(json.dumps(recorded, indent=2) + "\n")
    replace_section("speed", speed_tables(recorded))
    replace_section("faster", ratio_table(recorded), RATIOS)
    replace_section("fastest", fastest_table(recorded), FRONT_PAGE)


if __name__ == "__main__":
    main()
