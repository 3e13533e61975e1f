"""`make verify`: runs the pipeline in a temporary clone and compares the outputs.

On a machine class that `golden.json` lists, the weights must be bit-identical. On the
machine class of the committed results, every output must be: `dvc.lock` and `metrics/`
stay unchanged. On other machines the arithmetic may round differently, and the scores
must agree within the tolerances below. `--record` adds this machine class and the
weights in `models/` to the list.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from src.runtime.cores import threads

GOLDEN = Path("tests/golden.json")  # SHA-256 of the weights, by machine class
TOLERANCES = {  # by the last part of the metric's name
    "loss": 0.1,
    "accuracy": 0.02,
    "precision": 0.02,
    "recall": 0.02,
    "f1": 0.02,
}
SCORES = [  # metrics file, split
    ("train", "validation"),
    ("details/train", "validation"),
    ("test", "test"),
]


def machine_class() -> str:
    """Everything that affects rounding: jaxlib, processor, caches and threads."""
    parts = [f"jaxlib {version('jaxlib')}", platform.system(), platform.machine()]
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else platform.processor()
    for key in ("vendor_id", "cpu family", "model"):
        found = re.search(rf"^{key}\s*: (.*)$", text, re.MULTILINE)
        parts.append(f"{key} {found[1]}" if found else "")
    caches = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    parts += [path.read_text().strip() for path in caches]
    parts.append(f"{threads()} threads")
    return ", ".join(filter(None, parts))


def run(*command: str, folder: Path) -> str:
    """Runs a command and returns its stdout; exits if it fails."""
    result = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"verify: {' '.join(command)} ended with {result.returncode}.")
    return result.stdout


def differences(clone: Path, before: dict[str, str]) -> list[str]:
    """The scores that differ by more than their tolerance."""
    found = []
    for name, split in SCORES:
        path = f"metrics/{name}.json"
        old = json.loads(before[path])[split]
        new = json.loads((clone / path).read_text())[split]
        for key, tolerance in TOLERANCES.items():
            if key in old and not abs(old[key] - new[key]) <= tolerance:
                found.append(f"{path}: {split}.{key}: {old[key]} -> {new[key]}")
    for prepared in ("metrics/prepare.json", "metrics/details/prepare.json"):
        if (clone / prepared).read_text() != before[prepared]:
            found.append(f"{prepared}: counts differ")
    return found


def verify(clone: Path) -> int:
    """Runs the pipeline in the clone; returns the exit code."""
    before = {
        str(path.relative_to(clone)): path.read_text()
        for path in (clone / "metrics").rglob("*.json")
    }
    run("dvc", "repro", folder=clone)
    changed = run("git", "status", "--porcelain", folder=clone).split("\n")[:-1]
    print(run("dvc", "metrics", "diff", folder=clone), end="")
    here, golden = machine_class(), json.loads((clone / GOLDEN).read_text())
    expected, found = golden.get(here), weights_digest(clone)
    if expected not in (None, found):
        print(
            f"verify: expected weights with SHA-256 {expected} on this machine class "
            f"({here}), found {found}. Changed: {changed}."
        )
        return 1
    if not changed:
        print(f"verify: every output is bit-identical to the committed one ({here}).")
        return 0
    moved = differences(clone, before)
    if moved:
        print(f"verify: beyond the tolerances {TOLERANCES}: {moved}.")
        return 1
    known = "those in golden.json for" if expected else "not in golden.json for"
    print(
        f"verify: scores agree within {TOLERANCES}, bits differ: the committed results "
        f"are from another machine class. The weights are {known} this one ({here})."
    )
    return 0


def weights_digest(folder: Path) -> str:
    """SHA-256 of the trained weights, as train recorded it."""
    digest: str = json.loads((folder / "models/model.json").read_text())["sha256"]
    return digest


def main() -> int:
    """Verifies the commit at HEAD."""
    if sys.argv[1:] == ["--record"]:
        golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        golden[machine_class()] = weights_digest(Path())
        GOLDEN.write_text(json.dumps(golden, indent=2, sort_keys=True) + "\n")
        return 0
    os.environ.pop("FOURBEAT_RESUME_DIR", None)  # do not resume from a checkpoint
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "fourbeat"
        run("git", "clone", "--quiet", ".", str(clone), folder=Path.cwd())
        return verify(clone)


if __name__ == "__main__":
    sys.exit(main())
