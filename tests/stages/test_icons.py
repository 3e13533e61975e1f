"""Real pictures of many sizes and kinds: the icons of Debian's themes."""

import ast
import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.imports import ROOT
from tests.helpers.running import run_stage

TOOL = ROOT.parent / "shared/tools/icons.py"
ICONS = Path("/usr/share/icons")
THEMES = ("Adwaita", "Faenza", "Moka", "Obsidian", "Tango", "gnome", "nuoveXT2")
TEST_THEMES = ("elementary-xfce", "mate", "oxygen")
ALL = 1247  # icons of all ten themes, as Debian 12 has them
CLASSES = 16


def installed(themes):
    return [theme for theme in themes if (ICONS / theme).is_dir()]


@pytest.fixture
def icons(tmp_path):
    """A folder of icons, and the number of each split and class."""
    if not TOOL.is_file():
        pytest.skip(f"{TOOL} makes the pictures, and is not there")
    if len(installed(THEMES)) < 3 or not installed(TEST_THEMES):
        pytest.skip(f"{ICONS} lacks the themes that {TOOL} lists")
    folder = tmp_path / "icons"
    command = [sys.executable, TOOL, folder]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    _, counts = ast.literal_eval(result.stdout.strip().replace("} {", "}, {"))
    return folder, counts


@pytest.mark.slow
def test_every_icon_is_used_as_it_is(icons, tmp_path, write_params):
    folder, expected = icons
    write_params(dataset="folder", data_path=folder, image_size=64)
    result = run_stage("prepare", tmp_path)
    assert result.returncode == 0, result.stderr

    prepared = tmp_path / "data/prepared"
    manifest = json.loads((prepared / "manifest.json").read_text())
    assert len(manifest["class_names"]) == CLASSES
    assert manifest["image_shape"] == [64, 64, 3]
    found = {}
    for split, counts in manifest["counts"].items():
        of = "test" if split == "test" else "train"  # validation is cut from train
        for name, count in counts.items():
            found[of, name] = found.get((of, name), 0) + count
    assert found == expected
    if installed(THEMES + TEST_THEMES) == [*THEMES, *TEST_THEMES]:
        assert sum(found.values()) == ALL

    with (prepared / "files.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    assert sorted(Path(row["file"]) for row in rows) == files
    assert all(row["split"] and not row["reason"] for row in rows)
