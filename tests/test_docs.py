"""The README against the project."""

import re

import pytest

from src.config import Params, load_params
from tests.document import commented, tabulated
from tests.imports import ROOT

README = (ROOT / "README.md").read_text()


def test_parameter_table_lists_every_parameter_in_the_order_of_the_file():
    table = README.split("## Parameters")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert listed == list(Params.model_fields)
    written = re.findall(r"^(\w+):", (ROOT / "params.yaml").read_text(), re.MULTILINE)
    assert written == listed


def test_table_and_comments_are_those_that_the_schema_writes():
    """`make docs` writes them."""
    assert tabulated(README) == README
    text = (ROOT / "params.yaml").read_text()
    assert commented(text) == text


def test_every_file_that_the_readme_links_to_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_tree_names_every_room_of_the_house():
    tree = README.split("## Where everything is")[1].split("\n## ")[0]
    for folder in ("src", "stages"):
        for path in (ROOT / folder).iterdir():
            if path.name not in ("__init__.py", "__pycache__"):
                assert path.name in tree, path


def test_python_examples_of_the_readme_parse():
    for block in re.findall(r"(?:^    .*\n|^\n)+", README, re.MULTILINE):
        if "import numpy" in block:
            compile(
                "\n".join(line[4:] for line in block.splitlines()), "README", "exec"
            )


def test_quoted_results_are_those_of_the_committed_run():
    import json

    scores = json.loads((ROOT / "metrics/test.json").read_text())["test"]
    share = f"{scores['correct']} of {scores['examples']} images"
    interval = f"{scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f}"
    assert f"{scores['accuracy']:.4f} ({share}; 95 % interval {interval})" in README


def test_default_run_reaches_the_accuracy_that_the_project_promises():
    import json

    scores = json.loads((ROOT / "metrics/test.json").read_text())["test"]
    assert scores["accuracy"] >= 0.98


PAGES = ["README.md", "docs/exercises.md", "docs/extend.md"]


@pytest.mark.parametrize("page", PAGES)
def test_every_parameter_that_a_page_sets_is_one_that_can_be_set_so(page, write_params):
    text = (ROOT / page).read_text().replace("\\\n", " ")
    text = "\n".join(line for line in text.splitlines() if "--queue" not in line)
    commands = re.findall(r"(?:-S '?[a-z_0-9]+=[^'`\s]*'?\s*)+", text)
    assert commands
    for command in commands:
        changes = dict(re.findall(r"-S '?([a-z_0-9]+)=([^'`\s]*)", command))
        if changes.keys() & {"data_path"} or "linear" in changes.values():
            continue
        if changes.get("monitor") == "validation_kappa":
            continue
        load_params(write_params(**changes))


@pytest.mark.parametrize("page", ["docs/exercises.md", "docs/extend.md"])
def test_every_file_that_a_page_links_to_exists(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target
