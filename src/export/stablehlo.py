"""StableHLO, for CPU, CUDA and TPU, read with `jax.export.deserialize`.

Any batch size. Readable by JAX releases of the next six months; `weights.npz` lies
beside it for the time after.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export

from src.models import Model
from src.storage import write_bytes

FILE = "model.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")


def write(model: Model, image_shape: tuple[int, int, int], path: Path) -> None:
    """The network from uint8 images to probabilities, weights inside."""

    def probabilities(images: jax.Array) -> jax.Array:
        return nnx.softmax(model(images))

    # No traceback of this machine's paths beside each operation.
    jax.config.update("jax_traceback_in_locations_limit", 0)
    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.uint8)
    exported = export.export(jax.jit(probabilities), platforms=PLATFORMS)(images)
    write_bytes(path, bytes(exported.serialize()))


def load(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function in the file."""
    exported = export.deserialize(bytearray(path.read_bytes()))
    return lambda images: np.asarray(exported.call(images))
