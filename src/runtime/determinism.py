"""The same run, the same bits: what is set for that, and what must not be.

On CPU nothing needs to be set: XLA adds in one order for a given number of threads. On
GPU, sums by atomic operations and kernels chosen by timing differ from run to run.
Random numbers are threefry's everywhere, `src.state` says so itself.
"""

import os
import shlex
import sys

from src import paths
from src.config.params import Params
from src.errors import ParameterError

PINNED = {"xla_gpu_deterministic_ops": "true", "xla_gpu_autotune_level": "0"}
# What makes a difference from run to run, or from one compilation to the next.
FORBIDDEN = {
    "xla_gpu_exclude_nondeterministic_ops": "false",
    "xla_cpu_enable_fast_math": "true",
    "xla_cpu_enable_fast_min_max": "true",
    "xla_gpu_enable_fast_min_max": "true",
}


def pin_arithmetic(params: Params) -> None:
    """Adds `PINNED` to `XLA_FLAGS` where `deterministic` is true.

    Raises:
        ParameterError: `XLA_FLAGS` say the contrary, or JAX has read them already.
    """
    if not params.deterministic:
        return
    given = os.environ.get("XLA_FLAGS", "")
    flags = read_flags(given)
    for name, found in flags.items():
        if found == FORBIDDEN.get(name) or found != PINNED.get(name, found):
            raise ParameterError(
                f"XLA_FLAGS: expected nothing against deterministic: true, found "
                f"--{name}={found}. Remove it from XLA_FLAGS, or set deterministic: "
                f"false in {paths.PARAMS}."
            )
    missing = [f"--{name}={PINNED[name]}" for name in PINNED if name not in flags]
    if missing and "jax" in sys.modules:
        raise ParameterError(
            f"XLA_FLAGS: expected {' '.join(missing)} before JAX is imported, found "
            "JAX imported. Set XLA_FLAGS so, or deterministic: false."
        )
    os.environ["XLA_FLAGS"] = " ".join(filter(None, [given, *missing]))


def read_flags(text: str) -> dict[str, str]:
    """The flags in `XLA_FLAGS`; one without a value is true.

    Raises:
        ParameterError: it names a file, which XLA would read.
    """
    try:
        words = shlex.split(text)
    except ValueError:
        words = [text]
    if any(not word.startswith("--") for word in words):
        raise ParameterError(
            f"XLA_FLAGS: expected --flag=value, found {text[:60]!r}. Write the flags "
            "themselves there, or set deterministic: false."
        )
    pairs = (word.removeprefix("--").partition("=") for word in words)
    flags = {name: value if sign else "true" for name, sign, value in pairs}
    for name in {*PINNED, *FORBIDDEN} - {"xla_gpu_autotune_level"}:  # it is a number
        if name in flags:
            value = flags[name].lower()
            flags[name] = {"1": "true", "0": "false"}.get(value, value)
    return flags
