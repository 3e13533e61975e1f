"""Measures the shares of training time that checkpoints and the live page take.

Run by `make bench`. Trains in separate processes. Times each save, and measures the
processor time of each update of the live page, which another thread writes.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.project import FASHION, ROOT, finish, make_project, start
from benchmarks.sections import replace_section, table
from benchmarks.task import PREPARED

RECIPE = {**FASHION, "batch_size": 64, "epochs": 3}
ROUNDS = 3


def timed(
    function: Callable[..., None], clock: Callable[[], float], times: list[float]
) -> Callable[..., None]:
    """The function; the seconds of each call are added to `times`."""

    def call(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed on
        began = clock()
        function(*arguments, **options)
        times.append(clock() - began)

    return call


def measure() -> dict[str, list[float]]:
    """Trains in the working directory.

    Returns, of saves and of updates, the number, the median milliseconds, and the
    percentage of the training time.
    """
    from src import paths
    from src.config.load import load_params
    from src.runtime.determinism import pin_arithmetic

    params = load_params(paths.PARAMS)
    pin_arithmetic(params)
    from src.reporting.live import LiveView
    from src.resume.resume import Resume
    from src.runtime.stage import StageContext
    from stages import train

    saves: list[float] = []
    updates: list[float] = []
    save = timed(Resume.save, time.perf_counter, saves)
    Resume.save = save  # type: ignore[method-assign]
    update = timed(LiveView.update, time.thread_time, updates)
    LiveView.update = update  # type: ignore[method-assign]
    began = time.perf_counter()
    train.main(params, StageContext())
    seconds = time.perf_counter() - began
    return {
        name: [len(times), 1e3 * statistics.median(times), 100 * sum(times) / seconds]
        for name, times in (("saves", saves), ("updates", updates))
    }


def run(prepared: Path, values: dict[str, Any]) -> list[dict[str, list[float]]]:
    """Measures in several processes, one after another."""
    found = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "project"
            make_project(folder, prepared, values)
            output = finish(start(folder, "benchmarks.saving"))
            found.append(json.loads(output.splitlines()[-1]))
    return found


def main() -> None:
    """Measures one run; with `--data`, measures all cases and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    data = parser.parse_args().data
    if data is None:
        print(json.dumps(measure()))
        return
    fashion = data / PREPARED
    cases = {
        "digits, the defaults": run(ROOT / PREPARED, {}),
        "fashion_mnist, cnn, batch 64": run(fashion, RECIPE),
        "the same, save_minutes: 0.001": run(
            fashion, {**RECIPE, "save_minutes": 0.001}
        ),
    }
    rows = []
    for name, found in cases.items():
        row = [name]
        for what in ("saves", "updates"):
            columns = zip(*(each[what] for each in found), strict=True)
            counts, milliseconds, percents = map(sorted, columns)
            middle = statistics.median(percents)
            row += [
                f"{statistics.median(counts):.0f}",
                f"{statistics.median(milliseconds):.1f}",
                f"{middle:.2f} ({percents[0]:.2f} - {percents[-1]:.2f})",
            ]
        rows.append(row)
    head = [
        "run",
        *("saves", "ms per save", "% of the training time"),
        *("updates of the page", "ms per update", "% of the training time"),
    ]
    text = table(head, rows)
    print(text)
    replace_section("saving", text)


if __name__ == "__main__":
    main()
