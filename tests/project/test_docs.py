"""README.md and docs/ against the project: all that they name exists."""

import json
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml
from dvc.cli.parser import DvcParserError, get_main_parser

from src.config.load import load_params
from src.config.params import Params
from src.errors import FourbeatError
from src.evaluation.metrics import wilson_interval
from tests.helpers import document
from tests.helpers.imports import ROOT, import_closure, module_path
from tests.helpers.pages import (
    PAGE_NAMES,
    PAGES,
    anchors,
    blocks,
    code,
    commands,
    without_fences,
)

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
EXTENDED = {"validation_kappa", "linear", "[noise]"}  # of docs/how-to/extend.md
WRITTEN_BY_THE_USER = (
    "data/weights/",
    "my-images",
    "my-arrays",
    "my-tables",
    "val.npz",
    "valid.npz",
    "validation.npz",
    "val.csv",
    "shards/",
    "images.npz",
    "job.yaml",
    "train.sh",
)


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_links_lead_to_files_and_headings_that_exist(name):
    page = ROOT / name
    links = re.findall(r"\]\(([^)\s]+)\)", without_fences(page.read_text()))
    for link in links:
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_of_the_docs_is_in_their_index():
    index = ROOT / "docs/README.md"
    linked = re.findall(r"\]\(([^)#]+)\)", index.read_text())
    listed = {(index.parent / link).resolve() for link in linked}
    assert set((ROOT / "docs").rglob("*.md")) - {index} <= listed


def test_readme_is_short():
    assert len(README.encode()) <= 10_000
    assert max(map(len, README.splitlines())) <= 120


def test_generated_parts_are_those_that_make_docs_writes():
    text = (ROOT / "params.yaml").read_text()
    assert document.with_comments(text) == text
    assert document.parameters_page(text) == document.PAGE.read_text()


def test_parameter_page_lists_every_parameter_in_the_order_of_the_file():
    keys = list(yaml.safe_load((ROOT / "params.yaml").read_text()))
    assert keys == list(Params.model_fields)
    rows = re.findall(r"^\| `(\w+)` \|", document.PAGE.read_text(), re.MULTILINE)
    assert rows == keys


def test_tree_of_the_readme_names_every_room():
    tree = README.split("## The rooms")[1].split("\n## ")[0]
    for path in (ROOT / "src").iterdir():
        if path.name not in ("__init__.py", "__pycache__"):
            assert path.name in tree, path


def test_quoted_results_are_those_of_the_committed_run():
    scores = json.loads((ROOT / "metrics/test.json").read_text())["test"]
    prepared = json.loads((ROOT / "metrics/prepare.json").read_text())
    count, accuracy = prepared["test"]["examples"], scores["accuracy"]
    correct = round(accuracy * count)
    low, high = wilson_interval(correct, count)
    interval = f"95 % interval {low:.4f} to {high:.4f}"
    line = f"{count} images: accuracy {accuracy:.4f} ({interval}), loss"
    assert f"{line} {scores['loss']:.4f}" in README
    share = f"{accuracy:.4f} ({correct} of {count} images; {interval})"
    assert share in (ROOT / "docs/explanation/measurements.md").read_text()


def test_default_run_reaches_the_accuracy_that_the_project_promises():
    scores = json.loads((ROOT / "metrics/test.json").read_text())["test"]
    assert scores["accuracy"] >= 0.98


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_make_targets_exist(name):
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    for words in commands(ROOT / name, "make"):
        named = [word for word in words if "=" not in word]
        assert set(named) <= targets, named


def test_every_make_target_is_in_the_reference():
    page = (ROOT / "docs/reference/commands.md").read_text()
    for target in re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE):
        assert target == "help" or re.search(rf"`make {target}\b", page), target


def test_every_stage_is_in_the_reference():
    page = (ROOT / "docs/reference/commands.md").read_text()
    for path in (ROOT / "stages").glob("[!_]*.py"):
        assert f"`python -m stages.{path.stem}" in page, path


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_modules_and_their_options_exist(name):
    for words in commands(ROOT / name, "python"):
        if words[:1] != ["-m"] or words[1] == "stages.NAME":
            continue
        module = module_path(words[1])
        assert module is not None, words
        source = "".join(path.read_text() for path in import_closure(module))
        for option in re.findall(r"--[a-z-]+", " ".join(words)):
            assert f'"{option}"' in source, (words, option)


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_dvc_understands_its_commands(name):
    parser = get_main_parser()
    for words in commands(ROOT / name, "dvc"):
        try:
            parser.parse_args(words)
        except DvcParserError:
            # A span may name a command without its argument, as in `dvc add`.
            parser.parse_args([*words, "argument"])


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_parameters_that_a_page_sets_can_be_set_so(name, write_params):
    for words in code(ROOT / name):
        changes = {}
        for value in re.findall(r"-S (\"[^\"]*\"|'[^']*'|[^\s`]+)", words):
            key, _, given = value.strip("'\"").partition("=")
            assert key in Params.model_fields, words
            changes[key] = given
        changes.pop("data_path", None)  # quoted for DVC; see docs/how-to/data.md
        choices = [given.split(",") for given in changes.values()]
        if "--queue" in words:
            changes |= {key: one[0] for key, one in zip(changes, choices, strict=True)}
        if changes and not EXTENDED & set(changes.values()):
            load_params(write_params(**changes))


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_parameters_that_a_page_mentions_exist(name):
    for span in code(ROOT / name):
        found = re.fullmatch(r"([a-z_]+): (true|false|[a-z0-9_.\[\],]+)", span)
        assert not found or found[1] in Params.model_fields, span


@cache
def known_files() -> tuple[set[str], set[str], str]:
    """Files in git, outputs of stages, and the text of all sources."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    out = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True)
    files = {name for name in out.stdout.splitlines() if (ROOT / name).exists()}
    outputs = set()
    for file in ("dvc.yaml", "extra/dvc.yaml"):
        for stage in yaml.safe_load((ROOT / file).read_text())["stages"].values():
            for entry in stage.get("outs", []):
                outputs |= {entry} if isinstance(entry, str) else set(entry)
    texts = [
        (ROOT / name).read_text()
        for name in files
        if name.startswith(("src/", "stages/")) and not name.endswith((".pyc", ".png"))
    ]
    texts += [MAKEFILE, (ROOT / ".gitignore").read_text()]
    return files, outputs, "".join(texts)


def is_known_path(path: str) -> bool:
    """A file or folder in git, an output of a stage, or a name in the sources."""
    files, outputs, sources = known_files()
    path = path.rstrip("/")
    if any(file == path or file.startswith(f"{path}/") for file in files):
        return True
    if any(path == out or path.startswith(f"{out}/") for out in outputs):
        return True
    if any(out.startswith(f"{path}/") for out in outputs):
        return True
    name = path.rpartition("/")[2]
    ends = {Path(file).name for file in files | outputs}
    return ("/" not in path and name in ends) or name in sources


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_paths_that_a_page_names_exist(name):
    suffixes = "py|md|json|yaml|lock|npz|png|csv|html|in|safetensors|tflite|onnx|gz"
    pattern = rf"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:{suffixes})|\.[a-z]+/"
    for span in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", (ROOT / name).read_text()):
        if not re.fullmatch(pattern, span) or span.startswith(WRITTEN_BY_THE_USER):
            continue
        assert is_known_path(span), span


def test_environment_variables_are_those_that_the_sources_read():
    reference = (ROOT / "docs/reference/environment.md").read_text()
    files, _, _ = known_files()
    sources = "".join(
        (ROOT / file).read_text()
        for file in files
        if file.endswith(".py") and file.startswith(("src/", "stages/"))
    )
    read = set(re.findall(r"\bFOURBEAT_[A-Z_]+\b", sources))
    assert set(re.findall(r"^\| `(FOURBEAT_[A-Z_]+)`", reference, re.M)) == read
    for page in PAGES:
        assert set(re.findall(r"\bFOURBEAT_[A-Z_]+\b", page.read_text())) <= read, page


def test_exit_codes_are_those_of_the_errors():
    reference = (ROOT / "docs/reference/exit-codes.md").read_text()
    listed = set(map(int, re.findall(r"^\| (\d+) \|", reference, re.MULTILINE)))
    errors = {error.exit_code for error in FourbeatError.__subclasses__()}
    assert listed == errors | {0, 1, 129, 130, 143}


def test_quoted_code_of_the_loop_is_that_of_the_sources():
    sources = "".join(path.read_text() for path in (ROOT / "src/training").glob("*.py"))
    lines = {line.strip() for line in sources.splitlines()}
    quoted = "".join(blocks(ROOT / "docs/explanation/loop.md", "python")).splitlines()
    assert quoted
    assert [line for line in quoted if line.strip() not in lines] == []
