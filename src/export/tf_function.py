"""The network as a TensorFlow function, which the TensorFlow formats are made from."""

import os
from typing import Any

import jax

from src.export.network import Network
from src.export.to_stablehlo import PLATFORMS


def tensorflow_function(network: Network, batch: int | None, *, of_bytes: bool) -> Any:  # noqa: ANN401 - TensorFlow has no types
    """A `tf.function` from `images` to `probabilities`.

    Args:
        network: the network.
        batch: images per call; None: any number.
        of_bytes: whether `images` are uint8; otherwise float32 in [0, 255].
    """
    # Before the import: errors only, not the notes on this CPU's instructions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf
    from jax.experimental import jax2tf

    tf.config.set_visible_devices([], "GPU")  # TensorFlow would reserve their memory

    def classify(images: jax.Array) -> dict[str, jax.Array]:
        return {"probabilities": network.probabilities(images)}

    shape = network.trained.record.architecture.image_shape
    polymorphic = None if batch else [f"(batch, {', '.join(map(str, shape))})"]
    images = tf.TensorSpec(
        (batch, *shape), tf.uint8 if of_bytes else tf.float32, name="images"
    )
    return tf.function(
        jax2tf.convert(
            classify,
            polymorphic_shapes=polymorphic,
            with_gradient=False,
            # All of them, not only the one that JAX runs on here.
            native_serialization_platforms=PLATFORMS,
        ),
        input_signature=[images],
        autograph=False,
    )
