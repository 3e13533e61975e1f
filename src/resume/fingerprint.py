"""A name for all that decides the bits of training."""

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

SOURCES = Path(__file__).parents[1]
LIBRARIES = "jax", "jaxlib", "flax", "optax", "numpy"
# Parameters of the train stage on which no bit depends.
FREE = {"save_minutes", "resident_megabytes"}
# Which process is where decides no bit; how many devices, the other half says.
PLACES = (
    *("JAX_COORDINATOR", "JAX_PROCESS", "JAX_LOCAL"),
    *("JAX_NUM_CPU_DEVICES", "NVIDIA_VISIBLE"),
)
FORCED_DEVICES = r"--xla_force_host_platform_device_count=\d+"


class Fingerprint(NamedTuple):
    """Two digests of 64 hexadecimal digits: together they decide the bits."""

    run: str  # parameters, data, sources, libraries, JAX_ and XLA_ variables
    machine: str  # devices, processes, processor, threads: they decide the rounding


def fingerprint(params: Params, manifest: Manifest) -> Fingerprint:
    """Of the run that these make, on this machine."""
    stage = SOURCES.parent / "stages/train.py"
    run = {
        "parameters": params.model_dump(include=set(TRAINING) - FREE),
        "data": [manifest.digest(name) for name in ("train", "validation")],
        "class_names": manifest.class_names,
        "sources": {
            str(path.relative_to(SOURCES.parent)): digest(path.read_bytes())
            for path in [*sorted(SOURCES.rglob("*.py")), stage]
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
    return Fingerprint(digest_of(run), digest_of(machine))


def settings(variables: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the environment says to JAX, XLA and the drivers below them."""
    found = (
        (name, " ".join(re.sub(FORCED_DEVICES, "", value).split()))
        for name, value in variables.items()
        if name.startswith(("JAX_", "XLA_", "NVIDIA_")) and not name.startswith(PLACES)
    )
    return sorted((name, value) for name, value in found if value)


def processor() -> list[str]:
    """The processor's model and instruction sets: XLA compiles for them."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    kept = {line for line in lines if line.startswith(("model name", "flags"))}
    return [platform.machine(), *sorted(kept)]


def digest_of(decides: Mapping[str, object]) -> str:
    """SHA-256 of values as JSON."""
    return digest(json.dumps(decides, sort_keys=True, default=list).encode())
