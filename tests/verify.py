"""`make verify`: the pipeline in a temporary clone against what is committed.

On the machine class that the committed results come from, every output must be the same
to the last bit: `dvc.lock` and `metrics/` unchanged. Elsewhere the arithmetic may round
otherwise, and the scores must agree within the tolerances below. `--record` says that
the committed results come from this machine class.
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

RECORD = Path("tests/machine.txt")
TOLERANCES = {  # of the nested metrics, by their last name
    "loss": 0.1,
    "accuracy": 0.02,
    "precision": 0.02,
    "recall": 0.02,
    "f1": 0.02,
}
SCORES = [("train", "validation"), ("test", "test")]  # metrics file, split


def machine_class() -> str:
    """What decides how sums are rounded: processor, caches, threads and jaxlib."""
    parts = [f"jaxlib {version('jaxlib')}", platform.system(), platform.machine()]
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else platform.processor()
    for key in ("vendor_id", "cpu family", "model"):
        found = re.search(rf"^{key}\s*: (.*)$", text, re.MULTILINE)
        parts.append(f"{key} {found[1]}" if found else "")
    caches = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    parts += [path.read_text().strip() for path in caches]
    has_affinity = hasattr(os, "sched_getaffinity")  # not everywhere
    threads = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    parts.append(f"{threads} threads")
    return ", ".join(filter(None, parts))


def run(*command: str, folder: Path) -> str:
    """Runs a command; its errors are shown and end this one."""
    result = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"verify: {' '.join(command)} ended with {result.returncode}.")
    return result.stdout


def differences(clone: Path, before: dict[str, str]) -> list[str]:
    """The scores that moved by more than their tolerance."""
    found = []
    for name, split in SCORES:
        path = f"metrics/{name}.json"
        old = json.loads(before[path])[split]
        new = json.loads((clone / path).read_text())[split]
        for key, tolerance in TOLERANCES.items():
            if key in old and not abs(old[key] - new[key]) <= tolerance:
                found.append(f"{path}: {split}.{key}: {old[key]} -> {new[key]}")
    prepared = "metrics/prepare.json"
    if (clone / prepared).read_text() != before[prepared]:
        found.append(f"{prepared}: counts differ")
    return found


def verify(clone: Path) -> int:
    """Runs the pipeline in the clone; returns the exit code."""
    before = {
        f"metrics/{path.name}": path.read_text()
        for path in (clone / "metrics").glob("*.json")
    }
    run("dvc", "repro", folder=clone)
    changed = run("git", "status", "--porcelain", folder=clone).split("\n")[:-1]
    print(run("dvc", "metrics", "diff", folder=clone), end="")
    here, recorded = machine_class(), (clone / RECORD).read_text().strip()
    if not changed:
        print(f"verify: every output is the committed one, to the bit ({here}).")
        return 0
    if here == recorded:
        print(f"verify: not reproduced on the same machine class: {changed}.")
        return 1
    moved = differences(clone, before)
    if moved:
        print(f"verify: beyond the tolerances {TOLERANCES}: {moved}.")
        return 1
    print(
        f"verify: within the tolerances {TOLERANCES}; other bits, for the results were "
        f"committed on another machine class ({recorded}; here {here})."
    )
    return 0


def main() -> int:
    """Verifies the commit at HEAD."""
    if sys.argv[1:] == ["--record"]:
        RECORD.write_text(f"{machine_class()}\n")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "fourbeat"
        run("git", "clone", "--quiet", ".", str(clone), folder=Path.cwd())
        return verify(clone)


if __name__ == "__main__":
    sys.exit(main())
