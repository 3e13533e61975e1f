"""Measures the share of training time that saving checkpoints takes.

Run by `make bench`. Trains in separate processes and times each save.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.project import FASHION, ROOT, finish, make_project, start
from benchmarks.sections import replace_section, table
from benchmarks.task import PREPARED

RECIPE = {**FASHION, "batch_size": 64, "epochs": 3}
ROUNDS = 3


def measure() -> dict[str, float]:
    """Trains in the working directory; counts and times the saves."""
    from src import paths
    from src.config.load import load_params
    from src.runtime.determinism import pin_arithmetic

    params = load_params(paths.PARAMS)
    pin_arithmetic(params)
    from src.resume.resume import Resume
    from src.runtime.stage import StageContext
    from stages import train

    times: list[float] = []
    save = Resume.save

    def timed_save(*arguments: Any) -> None:  # noqa: ANN401 - passed on unchanged
        began = time.perf_counter()
        save(*arguments)
        times.append(time.perf_counter() - began)

    Resume.save = timed_save  # type: ignore[method-assign]
    began = time.perf_counter()
    train.main(params, StageContext())
    seconds = time.perf_counter() - began
    return {
        "saves": len(times),
        "milliseconds": 1e3 * statistics.median(times),
        "percent": 100 * sum(times) / seconds,
    }


def run(prepared: Path, values: dict[str, Any]) -> list[dict[str, float]]:
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
        percents = sorted(each["percent"] for each in found)
        middle = statistics.median(percents)
        rows.append(
            [
                name,
                f"{statistics.median(each['saves'] for each in found):.0f}",
                f"{statistics.median(each['milliseconds'] for each in found):.1f}",
                f"{middle:.2f} ({percents[0]:.2f} - {percents[-1]:.2f})",
            ]
        )
    text = table(["run", "saves", "ms per save", "% of the training time"], rows)
    print(text)
    replace_section("saving", text)


if __name__ == "__main__":
    main()
