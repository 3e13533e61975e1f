"""A fingerprint of everything that decides the bits of a training run."""

import json
import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax

from src.config.params import TRAINING, Params
from src.data.prepared import Manifest
from src.runtime.cores import threads
from src.storage.reading import digest
from src.training.initial_weights import InitialWeights

PACKAGE = Path(__file__).parents[1]  # src/
LIBRARIES = "jax", "jaxlib", "flax", "optax", "numpy"
# Parameters of the train stage that do not affect results.
NEUTRAL_PARAMS = {"save_minutes", "resident_megabytes"}
# Placement does not affect results; the device count is in the machine fingerprint.
PLACEMENT_VARIABLES = (
    *("JAX_COORDINATOR", "JAX_PROCESS", "JAX_LOCAL"),
    *("JAX_NUM_CPU_DEVICES", "NVIDIA_VISIBLE"),
)
FORCED_DEVICES = r"--xla_force_host_platform_device_count=\d+"


class Fingerprint(NamedTuple):
    """Two SHA-256 digests; runs with equal fingerprints give equal bits."""

    # parameters, data, initial weights, sources, libraries, environment variables
    run: str
    machine: str  # devices, processes, processor, threads: they affect rounding


def fingerprint(
    params: Params, manifest: Manifest, initial: InitialWeights | None = None
) -> Fingerprint:
    """The fingerprint of a training run on this machine.

    Args:
        params: the parameters of the run.
        manifest: of the data.
        initial: the initial weights, if there are any.
    """
    stage = PACKAGE.parent / "stages/train.py"
    run = {
        "parameters": params.model_dump(include=set(TRAINING) - NEUTRAL_PARAMS),
        "data": [manifest.digest(name) for name in ("train", "validation")],
        "class_names": manifest.class_names,
        "initial_weights": initial and [initial.sha256, initial.pixels],
        "sources": {
            str(path.relative_to(PACKAGE.parent)): digest(path.read_bytes())
            for path in [*sorted(PACKAGE.rglob("*.py")), stage]
        },
        "versions": {name: version(name) for name in LIBRARIES},
        "settings": settings(os.environ),
    }
    device = jax.devices()[0]
    machine = {
        "device": [device.platform, device.device_kind],
        "devices": [jax.device_count(), jax.process_count()],
        "processor": processor(),
        "threads": threads(),
    }
    return Fingerprint(json_digest(run), json_digest(machine))


def settings(variables: Mapping[str, str]) -> list[tuple[str, str]]:
    """The environment variables that JAX, XLA and the GPU drivers read, sorted.

    Variables and flags that only place the run on devices are left out.
    """
    found = (
        (name, " ".join(re.sub(FORCED_DEVICES, "", value).split()))
        for name, value in variables.items()
        if name.startswith(("JAX_", "XLA_", "NVIDIA_"))
        and not name.startswith(PLACEMENT_VARIABLES)
    )
    return sorted((name, value) for name, value in found if value)


def processor() -> list[str]:
    """The processor's model and instruction sets, which XLA compiles for."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    kept = {line for line in lines if line.startswith(("model name", "flags"))}
    return [platform.machine(), *sorted(kept)]


def json_digest(values: Mapping[str, object]) -> str:
    """SHA-256 of values written as JSON."""
    return digest(json.dumps(values, sort_keys=True, default=list).encode())
