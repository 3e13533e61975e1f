"""Times evaluate and predict: images per second, and seconds of whole processes.

Run by `make bench`. Trains `cnn` on Fashion-MNIST for a few steps. Each round runs
`stages.evaluate` on the 10,000 test images and `stages.predict` on 1,000 picture files,
and times the forward passes alone, after they are compiled. Writes scoring.json and
the table in README.md.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from benchmarks.data import tile
from benchmarks.machine import machine_name
from benchmarks.pictures import make_pictures
from benchmarks.project import FASHION, finish, make_project, start
from benchmarks.race import Spread, format_spread
from benchmarks.sections import replace_section, table
from benchmarks.task import load_array

RESULTS = Path(__file__).parent / "scoring.json"
ROUNDS = 3
FILES = 1_000
TRAINED = 6_000  # training examples: enough for a few steps
VALUES = {**FASHION, "dataset": "npz", "max_steps": 50, "export_formats": "[numpy]"}
FORWARD = "forward passes of the test split"
EVALUATE = "`stages.evaluate`, whole process"
PREDICT = "`stages.predict` on JPEG files of 500 x 375 pixels, whole process"

Rates = dict[str, list[float]]  # images/s in each round


def forward_rate() -> float:
    """Images/s of the forward passes over the test split, in the working directory."""
    from src.data.prepared import load_manifest, load_split
    from src.evaluation.predict import predict
    from src.models.checkpoint import load_trained

    manifest = load_manifest()
    model, images = load_trained(manifest).model, load_split("test", manifest).images
    predict(model, images)  # compiles
    began = time.perf_counter()
    predict(model, images)
    return len(images) / (time.perf_counter() - began)


def seconds(project: Path, *command: str) -> float:
    """Seconds of a process in the project."""
    began = time.perf_counter()
    finish(start(project, *command))
    return time.perf_counter() - began


def measure(data: Path, folder: Path, rounds: int) -> Rates:
    """Trains a network in a folder, then times forward passes, evaluate and predict."""
    pictures, source = folder / "pictures", folder / "source"
    make_pictures(pictures, FILES)
    tile(data, source, TRAINED)
    project = folder / "project"
    make_project(project, None, {**VALUES, "data_path": source})
    for stage in ("prepare", "train", "evaluate", "export"):
        finish(start(project, f"stages.{stage}"))
    examples = len(load_array(data, "test", "labels"))
    rates: Rates = {FORWARD: [], EVALUATE: [], PREDICT: []}
    for _ in range(rounds):
        output = finish(start(project, "benchmarks.scoring"))
        rates[FORWARD].append(json.loads(output.splitlines()[-1]))
        rates[EVALUATE].append(examples / seconds(project, "stages.evaluate"))
        predicted = seconds(project, "stages.predict", str(pictures))
        rates[PREDICT].append(FILES / predicted)
    return rates


def render(results: dict[str, dict[str, Spread]]) -> str:
    """A row for each machine class and each of forward passes, evaluate and predict."""
    rows = [
        [machine, name, format_spread(spread)]
        for machine, found in results.items()
        for name, spread in found.items()
    ]
    return table(["machine", "what", "images/s, median (min - max)"], rows)


def main() -> None:
    """Times one process; with `--data`, measures all and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.data is None:
        print(json.dumps(forward_rate()))
        return
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(options.data, Path(folder), options.rounds)
    recorded = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    recorded[machine_name()] = {name: Spread.of(each) for name, each in rates.items()}
    RESULTS.write_text(json.dumps(recorded, indent=2) + "\n")
    text = render(recorded)
    print(text)
    replace_section("scoring", text)


if __name__ == "__main__":
    main()
