"""Real pictures of many sizes and kinds: the icons of Debian's themes."""

import csv
import json
from pathlib import Path

import pytest

from benchmarks.icons import CLASSES, ICONS, TEST_THEMES, THEMES, collect
from tests.helpers.running import run_stage

ALL = {"train": 846, "test": 401}  # icons of all ten themes, as Debian 12 has them


def installed(themes):
    return [theme for theme in themes if (ICONS / theme).is_dir()]


@pytest.mark.slow
def test_every_icon_is_used_as_it_is(tmp_path, write_params):
    if len(installed(THEMES)) < 4 or not installed(TEST_THEMES):
        pytest.skip(f"{ICONS} lacks the themes that benchmarks/icons.py lists")
    folder = tmp_path / "icons"
    expected = collect(folder)
    if len(installed(THEMES)) == len(THEMES):
        assert expected == ALL
    write_params(dataset="folder", data_path=folder, image_size=64)
    result = run_stage("prepare", tmp_path)
    assert result.returncode == 0, result.stderr

    prepared = tmp_path / "data/prepared"
    manifest = json.loads((prepared / "manifest.json").read_text())
    assert manifest["class_names"] == sorted(CLASSES)
    assert manifest["image_shape"] == [64, 64, 3]
    found = {"train": 0, "test": 0}
    for split, counts in manifest["counts"].items():
        of = "test" if split == "test" else "train"  # validation is cut from train
        for label, count in counts.items():
            found[of] += count
            given = len(list((folder / of / label).iterdir()))
            assert count <= given if of == "train" else count == given
    assert found == expected

    with (prepared / "files.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    assert sorted(Path(row["file"]) for row in rows) == files
    assert all(row["split"] and not row["reason"] for row in rows)
