"""The README against the project."""

import os
import re
import subprocess

import pytest
import yaml

from src.config.load import load_params
from src.config.params import Params
from src.runtime.processes import read_environment
from tests.helpers.document import commented, tabulated
from tests.helpers.imports import ROOT

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

    files = ROOT / "metrics/test.json", ROOT / "metrics/details/test.json"
    headlines, details = (json.loads(path.read_text())["test"] for path in files)
    scores = headlines | details
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


@pytest.mark.parametrize("page", [*PAGES[1:], "docs/scaling.md"])
def test_every_file_that_a_page_links_to_exists(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target


def blocks(language):
    """The parts of docs/scaling.md in that language."""
    text = (ROOT / "docs/scaling.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands():
    """The train stages that docs/scaling.md would have in dvc.yaml."""
    found = [yaml.safe_load(block) for block in blocks("yaml") if "cmd:" in block]
    return [each["train"]["cmd"] for each in found]


def test_scripts_for_clusters_are_what_a_shell_understands():
    assert len(commands()) == 4
    for script in [*blocks("bash"), *commands()]:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_command_for_open_mpi_tells_each_process_who_it_is():
    (command,) = (each for each in commands() if "FOURBEAT" in each)
    script = command.replace("mpirun -n 2", "").replace("python -m stages.train", "env")
    given = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}
    given["PATH"] = os.environ["PATH"]
    run = ["bash", "-c", script]
    found = subprocess.run(run, env=given, capture_output=True, text=True, check=True)
    variables = dict(line.split("=", 1) for line in found.stdout.splitlines())
    assert read_environment(variables) == ("node1:29500", 2, 1)


def test_job_for_kubernetes_tells_each_pod_who_it_is():
    (service, job), *others = (
        list(yaml.safe_load_all(block))
        for block in blocks("yaml")
        if "kind: Job" in block
    )
    assert not others
    name, pod = job["metadata"]["name"], job["spec"]["template"]["spec"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"]
    (container,) = pod["containers"]
    variables = {each["name"]: each.get("value", "3") for each in container["env"]}
    where, count, number = read_environment(variables)
    assert (where.split(":")[0], count) == (
        f"{name}-0.{pod['subdomain']}",
        job["spec"]["completions"],
    )
    assert number == 3
