"""StableHLO for CPU, CUDA and TPU, any batch size; `jax.export.deserialize` reads it.

JAX guarantees that releases of the next six months can read the file. After that, use
`weights.npz` in the same folder.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export

from src.models.checkpoint import TrainedModel

FILE = "model.stablehlo"
RUNTIME: str | None = "jax flatbuffers"
PACKAGES: tuple[str, ...] = ("flatbuffers",)
EXACT = True
PLATFORMS = ("cpu", "cuda", "tpu")


def convert(trained: TrainedModel, calibration: np.ndarray) -> dict[str, bytes]:
    """The trained network itself, not its list of layers."""

    def probabilities(images: jax.Array) -> jax.Array:
        return nnx.softmax(trained.model(images))

    (batch,) = export.symbolic_shape("batch")
    shape = trained.record.architecture.image_shape
    images = jax.ShapeDtypeStruct((batch, *shape), jnp.uint8)
    exported = export.export(jax.jit(probabilities), platforms=PLATFORMS)(images)
    return {FILE: bytes(exported.serialize())}
