"""The XLA flags that make a run bit-reproducible; flags that prevent it are errors.

A CPU needs no flags: XLA adds in a fixed order for a given number of threads. On a GPU,
atomic additions and kernels chosen by timing differ from run to run. Random numbers are
threefry's on every device; see `src/training/state.py`.
"""

import os
import shlex
import sys

from src import paths
from src.config.params import Params
from src.errors import ParameterError

PINNED = {"xla_gpu_deterministic_ops": "true", "xla_gpu_autotune_level": "0"}
# Values that make results differ between runs or between compilations.
FORBIDDEN = {
    "xla_gpu_exclude_nondeterministic_ops": "false",
    "xla_cpu_enable_fast_math": "true",
    "xla_cpu_enable_fast_min_max": "true",
    "xla_gpu_enable_fast_min_max": "true",
}


def pin_arithmetic(params: Params) -> None:
    """Adds `PINNED` to `XLA_FLAGS` if `deterministic` is true.

    Raises:
        ParameterError: `XLA_FLAGS` contradicts `PINNED`, or JAX has already read it.
    """
    if not params.deterministic:
        return
    given = os.environ.get("XLA_FLAGS", "")
    flags = read_flags(given)
    for name, found in flags.items():
        if found == FORBIDDEN.get(name) or found != PINNED.get(name, found):
            raise ParameterError(
                f"XLA_FLAGS: expected no flag against deterministic: true, found "
                f"--{name}={found}. Remove it from XLA_FLAGS, or set deterministic: "
                f"false in {paths.PARAMS}."
            )
    missing = [f"--{name}={PINNED[name]}" for name in PINNED if name not in flags]
    if missing and "jax" in sys.modules:
        raise ParameterError(
            f"XLA_FLAGS: expected {' '.join(missing)} before JAX is imported, found "
            "JAX imported. Set these XLA_FLAGS, or deterministic: false."
        )
    os.environ["XLA_FLAGS"] = " ".join(filter(None, [given, *missing]))


def read_flags(text: str) -> dict[str, str]:
    """The flags in `XLA_FLAGS`; a flag without a value is true.

    Raises:
        ParameterError: it names a file, from which XLA would read the flags.
    """
    try:
        words = shlex.split(text)
    except ValueError:
        words = [text]
    if any(not word.startswith("--") for word in words):
        raise ParameterError(
            f"XLA_FLAGS: expected --flag=value, found {text[:60]!r}. Write the flags "
            "themselves into XLA_FLAGS, or set deterministic: false."
        )
    pairs = (word.removeprefix("--").partition("=") for word in words)
    flags = {name: value if sign else "true" for name, sign, value in pairs}
    for name in {*PINNED, *FORBIDDEN} - {
        "xla_gpu_autotune_level"
    }:  # its value is a number
        if name in flags:
            value = flags[name].lower()
            flags[name] = {"1": "true", "0": "false"}.get(value, value)
    return flags
