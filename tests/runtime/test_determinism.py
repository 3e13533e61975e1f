"""Reproducibility: flags that are refused, and settings that change no result."""

import json
import os
import platform
import sys

import pytest

from src.errors import ParameterError
from src.runtime.determinism import PINNED, pin_arithmetic
from tests.helpers.chaos import OUTPUTS
from tests.helpers.imports import ROOT
from tests.helpers.running import exit_code, run_stage


@pytest.mark.parametrize(
    "flags",
    [
        "--xla_gpu_deterministic_ops=false",
        "--xla_gpu_deterministic_ops=0",
        "--xla_gpu_exclude_nondeterministic_ops=false",
        "--xla_gpu_autotune_level=4",
        "--xla_cpu_enable_fast_math=true",
        "--xla_cpu_enable_fast_math=True",
        "--xla_gpu_deterministic_ops=FALSE",
        "--xla_cpu_enable_fast_math",
        "--xla_cpu_enable_fast_min_max=1",
        "--xla_cpu_use_xnnpack=true --xla_cpu_enable_fast_math=true",
    ],
)
def test_nondeterministic_flags_are_refused_by_name(monkeypatch, params, flags):
    monkeypatch.setenv("XLA_FLAGS", flags)
    name = flags.split()[-1].partition("=")[0]
    with pytest.raises(ParameterError, match=f"XLA_FLAGS: .*found {name}=.*Remove it"):
        pin_arithmetic(params)
    pin_arithmetic(params.model_copy(update={"deterministic": False}))
    assert os.environ["XLA_FLAGS"] == flags


def test_flags_in_a_file_are_refused(monkeypatch, params):
    monkeypatch.setenv("XLA_FLAGS", "/etc/flags")
    with pytest.raises(ParameterError, match="expected --flag=value, found '/etc"):
        pin_arithmetic(params)


def test_flags_after_the_import_of_jax_are_refused(monkeypatch, params):
    monkeypatch.delenv("XLA_FLAGS")
    with pytest.raises(ParameterError, match="before JAX is imported"):
        pin_arithmetic(params)


def test_other_flags_are_kept_and_pinned_ones_added(monkeypatch, params):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/x")
    monkeypatch.setattr(sys, "modules", {})
    pin_arithmetic(params)
    pinned = [f"--{name}={value}" for name, value in PINNED.items()]
    assert os.environ["XLA_FLAGS"].split() == ["--xla_dump_to=/tmp/x", *pinned]


def test_stage_refuses_such_flags_with_code_two_before_it_imports_jax(
    prepared, write_params
):
    write_params(model="mlp")
    for stage in ("train", "evaluate", "export"):
        result = run_stage(stage, prepared, XLA_FLAGS="--xla_cpu_enable_fast_math=true")
        assert result.returncode == 2
        assert result.stderr.startswith(f"{stage}: XLA_FLAGS: expected no flag against")
        assert result.stderr.count("\n") == 1


def trained(folder, **environment):
    assert run_stage("train", folder, **environment).returncode == 0
    return [(folder / name).read_bytes() for name in OUTPUTS]


@pytest.mark.slow
def test_environment_does_not_change_results(prepared, write_params):
    write_params(model="cnn", hidden=8, epochs=1, dropout=0.3, augment="[shift]")
    ours = trained(prepared, PYTHONHASHSEED="1")
    other = {"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "LC_ALL": "C", "HOME": "/"}
    write_params(
        model="cnn",
        hidden=8,
        epochs=1,
        dropout=0.3,
        augment="[shift]",
        deterministic=False,
    )
    weights, record = trained(prepared, **other)[:2]
    assert weights == ours[0], "on CPU the pinned flags make no difference"
    assert json.loads(record)["parameters"]["deterministic"] is False


@pytest.mark.slow
def test_damaged_compilation_cache_does_not_change_results(prepared, write_params):
    write_params(model="mlp", hidden=8, epochs=2)
    expected = trained(prepared)[0]
    cache = prepared / "cache"
    with_cache = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    assert trained(prepared, **with_cache)[0] == expected
    entries = [path for path in cache.rglob("*") if path.is_file()]
    assert entries
    for number, path in enumerate(entries):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if number % 2 else b"garbage")
    assert trained(prepared, **with_cache)[0] == expected


@pytest.mark.slow
def test_outputs_contain_no_machine_names_or_paths(prepared, write_params, monkeypatch):
    write_params(model="mlp", hidden=4, epochs=1)
    monkeypatch.setenv("USER", "secret-user")
    for stage in ("train", "evaluate", "export"):
        assert exit_code(stage, monkeypatch) == 0
    host = platform.node()
    secrets = [str(prepared), str(ROOT), "secret-user"]
    secrets += [host] * (len(host) > 5)  # a shorter one is in any picture by chance
    found = [
        (path, secret)
        for path in prepared.rglob("*")
        if path.is_file() and path.parent.name != ".resume"
        for secret in secrets
        if secret.encode() in path.read_bytes()
    ]
    assert found == []
