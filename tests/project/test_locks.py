"""Lock files: equal versions, a hash for every package, and no host name."""

import re

import pytest

from tests.helpers.imports import ROOT

PIN = re.compile(r"^(\S+)==(\S+)(?: ; (.*?))? \\\n((?:    --hash=.*\n)*)", re.MULTILINE)
LOCKS = "requirements.lock", "requirements-dev.lock", "requirements-gpu.lock"


def read(name: str) -> str:
    return (ROOT / name).read_text()


def versions(name: str) -> dict[str, set[str]]:
    """The versions of each package; Python versions may need different ones."""
    found: dict[str, set[str]] = {}
    for package, version, *_ in PIN.findall(read(name)):
        found.setdefault(package, set()).add(version)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_is_pinned_and_has_a_hash(name):
    pins = PIN.findall(read(name))
    assert len(pins) == len(re.findall(r"^[^ #\n]", read(name), re.MULTILINE))
    assert all("--hash=sha256:" in hashes for *_, hashes in pins)


@pytest.mark.parametrize("name", LOCKS)
def test_lock_names_no_host(name):
    assert "://" not in read(name)
    assert "--index" not in read(name)


@pytest.mark.parametrize("name", LOCKS[1:])
def test_locks_agree_on_the_packages_that_they_share(name):
    pipeline, other = versions(LOCKS[0]), versions(name)
    shared = pipeline.keys() & other.keys()
    assert shared
    assert {key: other[key] for key in shared} == {key: pipeline[key] for key in shared}


def test_benchmarks_use_the_locked_versions():
    pins = dict(
        re.findall(r"^(\S+)==(\S+)$", read("benchmarks/requirements.txt"), re.M)
    )
    locked = versions(LOCKS[0])
    shared = {name for name in pins if name.replace(".", "-") in locked}
    assert {"jax", "flax", "optax", "numpy", "safetensors"} <= shared
    for name in shared:
        assert {pins[name]} == locked[name.replace(".", "-")], name


def test_gpu_lock_adds_cuda_alone():
    added = versions("requirements-gpu.lock").keys() - versions(LOCKS[0]).keys()
    assert {re.split("[-_]", package)[0] for package in added} == {"jax", "nvidia"}
    assert not versions(LOCKS[0]).keys() - versions("requirements-gpu.lock").keys()


@pytest.mark.parametrize("tool", ["pytest", "hypothesis", "mypy", "ruff", "atheris"])
def test_pipeline_is_installed_without_development_tools(tool):
    assert tool in versions("requirements-dev.lock")
    assert tool not in versions(LOCKS[0])
