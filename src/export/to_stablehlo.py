"""StableHLO for CPU, CUDA and TPU, any batch size; `jax.export.deserialize` reads it.

JAX guarantees that releases of the next six months can read the file. After that, use
`weights.npz` in the same folder.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from src.export.network import Network

FILE = "model.stablehlo"
RUNTIME: str | None = "jax flatbuffers"
PACKAGES: tuple[str, ...] = ("flatbuffers",)
EXACT = True
PLATFORMS = ("cpu", "cuda", "tpu")


def convert(network: Network, calibration: np.ndarray) -> dict[str, bytes]:
    """The file, with the weights inside."""
    (batch,) = export.symbolic_shape("batch")
    shape = network.trained.record.architecture.image_shape
    images = jax.ShapeDtypeStruct((batch, *shape), jnp.uint8)
    compiled = jax.jit(network.probabilities)
    exported = export.export(compiled, platforms=PLATFORMS)(images)
    return {FILE: bytes(exported.serialize())}
