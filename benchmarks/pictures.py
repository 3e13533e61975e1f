"""Times how prepare reads pictures, against torchvision; measures its memory.

Run by `make bench`. It makes 10,000 JPEG files of 500 x 375 pixels, seeded. In each
round, prepare and torchvision's `ImageFolder` shrink all of them to 64 x 64. The
times are those of whole processes: imports, reading, and saving the pixels. Prepare
also checks, splits and looks for duplicates. torchvision's reading alone is timed too.
Writes pictures.json and the table in README.md.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.project import ROOT, finish, make_project, start
from benchmarks.race import Spread, format_spread
from benchmarks.sections import replace_section, table

HERE = Path(__file__).parent
COUNT, SMALL_COUNT = 10_000, 2_000
WIDTH, HEIGHT, QUALITY = 500, 375, 90
LIGHT, TINT = 40, 15  # standard deviations of each field, of 255
SIDE = 64
CLASSES = 10
ROUNDS = 5
FIELD = 2048  # side of the random field that pictures are cut from
SAMPLE_SECONDS = 0.05
# A JPEG that is decoded at a fraction of its size differs a little from the others.
MEAN_TOLERANCE = 3.0  # of 255, over all pixels
OURS, THEIRS = "Fourbeat, prepare", "torchvision"
READING = "torchvision, reading alone"
VALUES = {
    "dataset": "folder",
    "image_size": SIDE,
    "image_fit": "stretch",
    "channels": "auto",
    "background": "white",
    "on_broken": "stop",
}


def random_field(seed: int) -> np.ndarray:
    """A smooth random field, float32 `[FIELD, FIELD]` of unit variance.

    Its amplitudes fall with the frequency as those of photographs do: as 1 / f.
    """
    rng = np.random.default_rng(seed)
    across, down = np.fft.rfftfreq(FIELD), np.fft.fftfreq(FIELD)
    frequencies = np.hypot(down[:, None], across[None, :])
    frequencies[0, 0] = np.inf  # no mean
    waves = np.fft.rfft2(rng.standard_normal((FIELD, FIELD))) / frequencies
    field = np.fft.irfft2(waves, (FIELD, FIELD))
    return (field / field.std()).astype(np.float32)


def write_pictures(folder: Path, first: int, last: int) -> None:
    """Writes the pictures from `first` to before `last`.

    The channels share most of a picture's brightness, as they do in photographs.
    """
    fields = random_field(0), random_field(1)
    for number in range(first, last):
        rng = np.random.default_rng((2, number))
        light = sum(cut(field, rng) for field in fields)
        tint = np.stack([cut(field, rng) for field in (*fields, fields[0])], 2)
        pixels = 128 + LIGHT * light[:, :, None] + TINT * tint
        path = folder / "train" / f"class_{number % CLASSES}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        picture.save(path, quality=QUALITY)


def cut(field: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random part of a field, of a picture's size."""
    row, column = rng.integers(0, (FIELD - HEIGHT, FIELD - WIDTH))
    return field[row : row + HEIGHT, column : column + WIDTH]


def make_pictures(folder: Path, count: int) -> float:
    """Writes `count` pictures on all cores; returns their mean size in kB."""
    cores = os.cpu_count() or 1
    ends = np.linspace(0, count, cores + 1).astype(int).tolist()
    with ProcessPoolExecutor(cores) as pool:
        for part in [
            pool.submit(write_pictures, folder, first, last)
            for first, last in pairwise(ends)
        ]:
            part.result()
    sizes = [path.stat().st_size for path in folder.rglob("*.jpg")]
    return sum(sizes) / len(sizes) / 1e3


def first_pictures(folder: Path, count: int, target: Path) -> None:
    """Fills the folder `target` with links to the first `count` pictures."""
    for path in sorted(folder.rglob("*.jpg"), key=lambda path: path.name)[:count]:
        linked = target / path.relative_to(folder)
        linked.parent.mkdir(parents=True, exist_ok=True)
        linked.hardlink_to(path)


def prepare(pictures: Path, project: Path) -> subprocess.Popen[str]:
    """Starts prepare in the new folder `project`."""
    make_project(project, None, {**VALUES, "data_path": pictures})
    return start(project, "stages.prepare")


def prepare_seconds(pictures: Path, project: Path) -> float:
    """Runs prepare; returns its seconds."""
    began = time.perf_counter()
    finish(prepare(pictures, project))
    return time.perf_counter() - began


def prepare_megabytes(pictures: Path, project: Path) -> float:
    """Runs prepare; returns the peak MB of its processes, shared pages counted once."""
    process, peak, ended = prepare(pictures, project), [0.0], Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            kilobytes = sum(map(proportional_memory, family(process.pid)))
            peak[0] = max(peak[0], kilobytes / 1e3)

    sampler = Thread(target=sample, daemon=True)
    sampler.start()
    finish(process)  # exits if prepare failed
    ended.set()
    sampler.join()
    return peak[0]


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = " ".join((task / "children").read_text() for task in tasks)
    except OSError:  # it has ended
        return []
    return [pid, *(each for child in children.split() for each in family(int(child)))]


def proportional_memory(pid: int) -> int:
    """Resident kB of a process; a page that several share counts in parts."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line[:4] == "Pss:"), 0)


def torchvision_seconds(python: Path, pictures: Path, out: Path) -> tuple[float, float]:
    """Lets torchvision read the pictures and save their pixels as `out`.

    Returns:
        The seconds of its process, and of its reading alone.
    """
    module = "benchmarks.contestants.image_folder"
    command = [python, "-m", module, pictures / "train", str(SIDE), out]
    began = time.perf_counter()
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    whole = time.perf_counter() - began
    if result.returncode:
        raise SystemExit(f"{result.stderr}pictures: torchvision did not run.")
    return whole, json.loads(result.stdout)["seconds"]


def check_equal_work(project: Path, out: Path) -> float:
    """The mean difference of the pixels, of 255; exits if the work was not equal."""
    ours = prepared_pictures(project / "data/prepared")
    with np.load(out) as file:
        theirs = file["images"]
    if ours.shape != theirs.shape:
        raise SystemExit(f"pictures: found shapes {ours.shape} and {theirs.shape}.")
    mean = float(np.abs(ours.astype(np.int16) - theirs).mean())
    if mean > MEAN_TOLERANCE:
        raise SystemExit(f"pictures: mean difference {mean:.2f} of 255: unequal work.")
    return mean


def prepared_pictures(folder: Path) -> np.ndarray:
    """The pictures of all splits, in the order of their files."""
    images = {}
    with (folder / "files.csv").open(encoding="utf-8", newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["split"]]
    for name in ("train", "validation", "test"):
        with np.load(folder / f"{name}.npz") as file:
            split = file["images"]
        files = [row["file"] for row in rows if row["split"] == name]
        images |= dict(zip(files, split, strict=True))
    return np.stack([images[file] for file in sorted(images)])


def measure(pictures: Path, python: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Times both sides in turns; the order changes with each round."""
    seconds: dict[str, list[float]] = {OURS: [], THEIRS: [], READING: []}
    difference = 0.0
    for number in range(rounds):
        project, out = folder / f"round-{number}", folder / "theirs.npz"
        for name in (OURS, THEIRS) if number % 2 else (THEIRS, OURS):
            if name == OURS:
                seconds[OURS].append(prepare_seconds(pictures, project))
            else:
                whole, reading = torchvision_seconds(python, pictures, out)
                seconds[THEIRS].append(whole)
                seconds[READING].append(reading)
        latest = ", ".join(
            f"{name} {found[-1]:.1f} s" for name, found in seconds.items()
        )
        print(f"round {number}: {latest}", flush=True)
        difference = check_equal_work(project, out)
        shutil.rmtree(project)
    rates = {name: [COUNT / each for each in found] for name, found in seconds.items()}
    ratios = {
        name: [ours / other for ours, other in zip(rates[OURS], found, strict=True)]
        for name, found in rates.items()
    }
    return {
        "images": {name: Spread.of(found) for name, found in rates.items()},
        "ratio": {name: Spread.of(found) for name, found in ratios.items()},
        "difference": difference,
    }


def render(results: dict[str, Any]) -> str:
    """A row for each program, then one for each number of files."""
    peaks = results["megabytes"]
    rows = [
        [name, format_spread(rate), format_spread(results["ratio"][name], ".2f")]
        for name, rate in results["images"].items()
    ]
    rows[0][2] = ""
    memory = [[f"{int(count):,}", f"{peak:,.0f}"] for count, peak in peaks.items()]
    speed = table(["", "files/s", "Fourbeat's speed relative to it"], rows)
    return f"{speed}\n\n{table(['files', 'peak MB of prepare'], memory)}"


def main() -> None:
    """Makes the pictures, measures, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torchvision", type=Path, required=True, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        pictures, few = folder / "pictures", folder / "few"
        size = make_pictures(pictures, COUNT)
        print(f"{COUNT:,} pictures of {size:.0f} kB on average", flush=True)
        first_pictures(pictures, SMALL_COUNT, few)
        results = measure(pictures, options.torchvision, folder, options.rounds)
        results["kilobytes"] = size
        results["megabytes"] = {
            str(SMALL_COUNT): prepare_megabytes(few, folder / "small"),
            str(COUNT): prepare_megabytes(pictures, folder / "large"),
        }
    print(f"mean difference of the pixels: {results['difference']:.2f} of 255")
    (HERE / "pictures.json").write_text(json.dumps(results, indent=2) + "\n")
    text = render(results)
    print(text)
    replace_section("pictures", text)


if __name__ == "__main__":
    main()
