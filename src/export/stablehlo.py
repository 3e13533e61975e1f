"""StableHLO, for CPU, CUDA and TPU, read with `jax.export.deserialize`.

Any batch size. Readable by JAX releases of the next six months; `weights.npz` lies
beside it for the time after.
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
    """The file: the network itself, in the form that it was trained in."""

    def probabilities(images: jax.Array) -> jax.Array:
        return nnx.softmax(trained.model(images))

    (batch,) = export.symbolic_shape("batch")
    shape = trained.record.architecture.image_shape
    images = jax.ShapeDtypeStruct((batch, *shape), jnp.uint8)
    exported = export.export(jax.jit(probabilities), platforms=PLATFORMS)(images)
    return {FILE: bytes(exported.serialize())}
