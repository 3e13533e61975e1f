"""Few icons: `resnet` from zero against a start from weights trained on letters.

    python -m benchmarks.fine_tune --seeds 6

It trains on letters once. Then it draws 10 training icons a class for each seed, trains
with both starts, and scores each on all test icons. Writes fine_tune.json and the table
in README.md. Needs the icon themes that icons.py lists.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.icons import collect
from benchmarks.letters import SIDE, save_letters
from benchmarks.project import FASHION, finish, make_project, start
from benchmarks.sections import replace_section, table

HERE = Path(__file__).parent
RESULTS = HERE / "fine_tune.json"
IMAGES, OF_VALIDATION = 10, 5  # icons of a class; validation selects the epoch
ON_LETTERS = {**FASHION, "dataset": "npz", "model": "resnet", "epochs": 5}
ON_ICONS = {
    **FASHION,
    "dataset": "folder",
    "image_size": SIDE,
    "model": "resnet",
    "augment": "[crop, flip, colour]",
    "label_smoothing": 0.1,
    "epochs": 60,
}
SPLITS = {"validation": "train", "test": "test"}  # the files with their metrics
Scores = dict[str, dict[str, float]]  # by start and split
# Equal for both.
STARTS: dict[str, dict[str, object]] = {
    "from zero": {"lr": 0.002},
    "from letters": {"lr": 0.002, "init_from": "letters"},
}


def draw_icons(icons: Path, out: Path, seed: int) -> None:
    """Copies a few icons of each class for training and validation, and all of test."""
    rng = np.random.default_rng(seed)
    for folder in sorted((icons / "train").iterdir()):
        files = rng.permutation(sorted(folder.iterdir()))[: IMAGES + OF_VALIDATION]
        for number, file in enumerate(files):
            split = out / ("train" if number < IMAGES else "val") / folder.name
            split.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, split)
    shutil.copytree(icons / "test", out / "test")


def train_on_letters(folder: Path) -> float:
    """Leaves the model in `folder/models`; returns its validation accuracy."""
    save_letters(folder.with_name("letters"))
    data = {"data_path": folder.with_name("letters"), "seed": 0}
    make_project(folder, None, {**ON_LETTERS, **data})
    (folder / "data/weights").mkdir()
    finish(start(folder, "stages.prepare"))
    finish(start(folder, "stages.train"))
    return accuracy(folder, "validation")


def train_on_icons(icons: Path, seed: int, letters: Path) -> Scores:
    """Trains from zero and from the model in `letters`, on the same icons."""
    scores = {}
    with tempfile.TemporaryDirectory() as parent:
        data, prepared = Path(parent, "icons"), Path(parent, "prepared")
        draw_icons(icons, data, seed)
        values = {**ON_ICONS, "data_path": data, "seed": seed}
        make_project(prepared, None, values)
        finish(start(prepared, "stages.prepare"))
        for name, changes in STARTS.items():
            folder = Path(parent, name)
            make_project(folder, prepared / "data/prepared", {**values, **changes})
            shutil.copytree(letters, folder / "data/weights/letters")
            finish(start(folder, "stages.train"))
            finish(start(folder, "stages.evaluate"))
            scores[name] = {of: accuracy(folder, of) for of in SPLITS}
    return scores


def accuracy(folder: Path, split: str) -> float:
    """The accuracy that a run reported."""
    path = folder / "metrics" / f"{SPLITS[split]}.json"
    return float(json.loads(path.read_text())[split]["accuracy"])


def render(results: dict[str, Any]) -> str:
    """A row per start, and one of the differences between runs with the same seed."""
    head, rows = ["start", "lr", "validation accuracy", "test accuracy", "range"], []
    of = {name: [run[name] for run in results["runs"]] for name in STARTS}
    for name, changes in STARTS.items():
        validation, test = ([run[key] for run in of[name]] for key in SPLITS)
        cells = mean(validation), mean(test), ends(test)
        rows.append([name, str(changes["lr"]), *cells])
    zero, letters = ([run["test"] for run in runs] for runs in of.values())
    gains = [more - less for more, less in zip(letters, zero, strict=True)]
    error = statistics.stdev(gains) / len(gains) ** 0.5
    gain = f"{statistics.mean(gains):.3f}, standard error {error:.3f}"
    return table(head, [*rows, ["gain at the same seed", "", "", gain, ends(gains)]])


def mean(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def ends(values: list[float]) -> str:
    """The least and the largest value."""
    return f"{min(values):.3f} - {max(values):.3f}"


def main() -> None:
    """Trains with every seed; prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, default=6, help="two or more")
    seeds = parser.parse_args().seeds
    names = "jax", "flax", "optax", "numpy", "pillow", "matplotlib"
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in names},
        "runs": [],
    }
    with tempfile.TemporaryDirectory() as parent:
        collect(Path(parent, "icons"))
        project = Path(parent, "project")
        results["letters"] = train_on_letters(project)
        print(f"letters: validation accuracy {results['letters']:.4f}", flush=True)
        for seed in range(seeds):
            scores = train_on_icons(Path(parent, "icons"), seed, project / "models")
            results["runs"].append(scores)
            print(f"seed {seed}: {scores}", flush=True)
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(render(results))
    replace_section("fine_tune", render(results))


if __name__ == "__main__":
    main()
