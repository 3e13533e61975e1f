"""The network as a function of TensorFlow, from which its formats are made."""

import os
from typing import Any

import jax
import jax.numpy as jnp

from src.models.checkpoint import TrainedModel
from src.models.layer_list import layer_probabilities

PLATFORMS = "cpu", "cuda", "tpu"  # not only the one that JAX found here

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors; it also praises its CPU


def tensorflow_function(
    trained: TrainedModel, batch: int | None, *, of_bytes: bool
) -> Any:  # noqa: ANN401 - TensorFlow has no types
    """A `tf.function` from `images` to `probabilities`.

    Args:
        trained: the network.
        batch: images per call; None: any number.
        of_bytes: uint8 `images`, else float32 of the same numbers, 0 to 255.
    """
    import tensorflow as tf
    from jax.experimental import jax2tf

    tf.config.set_visible_devices([], "GPU")  # JAX wants them

    def classify(images: jax.Array) -> dict[str, jax.Array]:
        pixels = images.astype(jnp.float32) / 255
        answer = layer_probabilities(trained.model.layers(), trained.weights, pixels)
        return {"probabilities": answer}

    shape = trained.record.architecture.image_shape
    polymorphic = None if batch else [f"(batch, {', '.join(map(str, shape))})"]
    images = tf.TensorSpec(
        (batch, *shape), tf.uint8 if of_bytes else tf.float32, name="images"
    )
    return tf.function(
        jax2tf.convert(
            classify,
            polymorphic_shapes=polymorphic,
            with_gradient=False,
            native_serialization_platforms=PLATFORMS,
        ),
        input_signature=[images],
        autograph=False,
    )
