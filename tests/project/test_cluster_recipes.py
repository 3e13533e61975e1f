"""The recipes for clusters in docs/how-to/devices-and-machines.md."""

import os
import subprocess

import yaml

from src.runtime.launch import read_environment
from tests.helpers.imports import ROOT
from tests.helpers.pages import blocks

CLUSTERS = ROOT / "docs/how-to/devices-and-machines.md"


def cluster_commands() -> list[str]:
    """The train stages that the page puts into dvc.yaml."""
    found = [
        yaml.safe_load(text) for text in blocks(CLUSTERS, "yaml") if "cmd:" in text
    ]
    return [each["train"]["cmd"] for each in found]


def test_cluster_scripts_are_valid_shell():
    assert len(cluster_commands()) == 4
    for script in [*blocks(CLUSTERS, "bash"), *cluster_commands()]:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_open_mpi_command_sets_the_number_of_each_process():
    (command,) = (each for each in cluster_commands() if "FOURBEAT" in each)
    script = command.replace("mpirun -n 2", "").replace("python -m stages.train", "env")
    given = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}
    given["PATH"] = os.environ["PATH"]
    run = ["bash", "-c", script]
    found = subprocess.run(run, env=given, capture_output=True, text=True, check=True)
    variables = dict(line.split("=", 1) for line in found.stdout.splitlines())
    assert read_environment(variables) == ("node1:29500", 2, 1)


def test_kubernetes_job_sets_the_number_of_each_pod():
    (service, job), *others = (
        list(yaml.safe_load_all(text))
        for text in blocks(CLUSTERS, "yaml")
        if "kind: Job" in text
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
