"""The network as StableHLO, which the formats of JAX and TensorFlow are made of."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from src.export.network import Network
from src.export.tensorflow_converter import Program

PLATFORMS = ("cpu", "cuda", "tpu")


def stablehlo_of(
    network: Network, batch: int | None, *, of_bytes: bool = True
) -> export.Exported:
    """The network with its weights, from images to probabilities.

    Args:
        network: the network.
        batch: images per call; None: any number.
        of_bytes: whether images are uint8; otherwise float32 in [0, 255].
    """
    count = batch or export.symbolic_shape("batch")[0]
    shape = network.trained.record.architecture.image_shape
    dtype = jnp.uint8 if of_bytes else jnp.float32
    images = jax.ShapeDtypeStruct((count, *shape), dtype)
    return export.export(jax.jit(network.probabilities), platforms=PLATFORMS)(images)


def program_for_tensorflow(
    network: Network,
    file: str,
    batch: int | None,
    calibration: np.ndarray | None = None,
) -> Program:
    """What TensorFlow's process makes a file of.

    Args:
        network: the network.
        file: file or folder in models/export.
        batch: images per call; None: any number.
        calibration: for 8-bit integers: training images, uint8.
    """
    exported = stablehlo_of(network, batch, of_bytes=calibration is None)
    architecture = network.trained.record.architecture
    return Program(
        exported.mlir_module_serialized,
        calibration,
        file,
        exported.calling_convention_version,
        exported.platforms,
        (batch, *architecture.image_shape),
        architecture.classes,
    )
