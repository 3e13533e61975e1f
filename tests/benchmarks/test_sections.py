"""The tables in the benchmarks' README match their results files."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import (
    accuracy,
    bench,
    devices,
    fine_tune,
    paper,
    pictures,
    scaling,
    scoring,
    search,
    sizes,
    unlike,
)
from benchmarks.sections import README

TABLES = {
    "speed": (bench.RESULTS, None, bench.speed_tables),
    "faster": (bench.RESULTS, None, bench.ratio_table),
    "fastest": (bench.RESULTS, None, bench.fastest_table),
    "accuracy": (accuracy.HERE / "accuracy.json", None, accuracy.accuracy_table),
    "fine_tune": (fine_tune.RESULTS, None, fine_tune.render),
    "scoring": (scoring.RESULTS, None, scoring.render),
    "search": (search.HERE / "search.json", "runs", search.render),
    "unlike": (unlike.RESULTS, None, unlike.render),
    "pictures": (pictures.HERE / "pictures.json", None, pictures.render),
    "costs": (scaling.RESULTS, "costs", scaling.render_costs),
    "devices": (scaling.RESULTS, "devices", devices.render),
    "sizes": (scaling.RESULTS, "sizes", sizes.render),
    "paper": (scaling.RESULTS, "paper", paper.render),
}


def section(name: str) -> str:
    elsewhere = {"faster": bench.RATIOS, "fastest": bench.FRONT_PAGE}
    text = elsewhere.get(name, README).read_text()
    (found,) = re.findall(
        rf"<!-- {name} -->\n(.*?)\n<!-- end {name} -->", text, re.DOTALL
    )
    return found


def read(path: Path, part: str | None) -> dict:
    results = json.loads(path.read_text())
    return results[part] if part else results


@pytest.mark.parametrize("name", TABLES)
def test_readme_table_matches_the_results(name):
    path, part, render = TABLES[name]
    assert section(name) == render(read(path, part))


def test_larger_machines_are_computed_from_the_present_assumptions():
    assert section("paper") == paper.render(paper.measure())
