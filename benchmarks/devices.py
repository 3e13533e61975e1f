"""One device, two in one process, two processes: on the same cores, the same batch."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.project import FASHION, ROOT, finish, make_project, start
from benchmarks.race import Environment, Run, Spread, race, read_answer, shown, together
from benchmarks.sections import table
from benchmarks.task import PREPARED, Task

CASES = [(model, batch) for model in ("mlp", "cnn") for batch in (128, 256)]
RECIPE = {**FASHION, "schedule": "constant", "epochs": 1000}
FORCED = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
ALONE = "1 process, 1 device"
CLASSES = 10
COMPARED = 200  # steps, whose losses are compared
ROUNDS, TURN_SECONDS = 5, 1.5


def kinds() -> dict[str, list[Environment]]:
    """What is compared: the environment of each process."""
    return {
        ALONE: [{}],
        "1 process, 2 devices": [FORCED],
        "2 processes": [*together(2)],
        "2 processes, FOURBEAT_JOBS=2": [
            {**environment, "FOURBEAT_JOBS": "2"} for environment in together(2)
        ],
    }


def measure(data: Path) -> dict[str, Any]:
    """For each network and batch a row per kind."""
    return {f"{model}, {batch}": compare(data, model, batch) for model, batch in CASES}


def compare(data: Path, model: str, batch: int) -> dict[str, Any]:
    """Images per second, the ratio to one device, losses, and the message's share."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "project"
        values = {**RECIPE, "model": model, "batch_size": batch}
        make_project(folder, data / PREPARED, values)
        runs = {name: Run(folder, found) for name, found in kinds().items()}
        losses = {name: run.turn(COMPARED)["losses"] for name, run in runs.items()}
        rates = race(runs, seconds=TURN_SECONDS, rounds=ROUNDS, batch=batch)
        for run in runs.values():
            run.stop()
    numbers = message(Task(model, batch, data))
    rows = {}
    for name, environments in kinds().items():
        pairs = zip(rates[name], rates[ALONE], strict=True)
        speed = Spread.of(rates[name])
        seconds = 0.0 if name == ALONE else all_reduce(environments, numbers)
        rows[name] = {
            "images": speed,
            "ratio": Spread.of([mine / theirs for mine, theirs in pairs]),
            "loss_difference": difference(losses[name], losses[ALONE]),
            "message_milliseconds": 1e3 * seconds,
            "message_share": seconds / (batch / speed.median),
        }
    print(model, batch, rows, flush=True)
    return rows


def message(task: Task) -> int:
    """Numbers that a step sums: loss, gradient, and per example logits and loss."""
    weights = sum(array.size for array in task.weights().values())
    return 1 + weights + task.batch * (CLASSES + 1)


def all_reduce(environments: list[Environment], numbers: int) -> float:
    """Seconds of one sum of so many numbers, with nothing else to do."""
    processes = [
        start(ROOT, "benchmarks.all_reduce", str(numbers), **environment)
        for environment in environments
    ]
    answer, *_ = [read_answer(process) for process in processes]
    for process in processes:
        finish(process)
    seconds: float = answer["seconds"]
    return seconds


def difference(losses: list[float], others: list[float]) -> float:
    """The largest, as a share of the loss."""
    pairs = zip(losses, others, strict=True)
    return max(abs(mine - theirs) / theirs for mine, theirs in pairs)


def render(results: dict[str, Any]) -> str:
    """The results, a row per configuration and kind."""
    head = [
        "network, batch",
        "on the same two cores",
        "images/s, median (least - most)",
        "of one device's",
        f"losses of {COMPARED} steps differ by",
        "the message alone, ms",
        "its share of a step",
    ]
    rows = []
    for configuration, kinds in results.items():
        for name, row in kinds.items():
            alone = name == ALONE
            others = [
                shown(row["ratio"], ".2f"),
                f"{row['loss_difference']:.1e}",
                f"{row['message_milliseconds']:.2f}",
                f"{row['message_share']:.1%}",
            ]
            speed = shown(row["images"])
            cells = ["1", "", "", ""] if alone else others
            rows.append([configuration, name, speed, *cells])
    return table(head, rows)
