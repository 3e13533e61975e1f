"""StableHLO for CPU, CUDA and TPU, any batch size; `jax.export.deserialize` reads it.

JAX guarantees that releases of the next six months can read the file. After that, use
`weights.npz` in the same folder.
"""

import numpy as np

from src.export.network import Network
from src.export.stablehlo import stablehlo_of

FILE = "model.stablehlo"
RUNTIME: str | None = "jax flatbuffers"
PACKAGES: tuple[str, ...] = ("flatbuffers",)
EXACT = True


def convert(network: Network, calibration: np.ndarray) -> dict[str, bytes]:
    """The file, with the weights inside."""
    return {FILE: bytes(stablehlo_of(network, batch=None).serialize())}
