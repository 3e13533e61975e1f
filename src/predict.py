"""Forward passes over a whole split."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.models import Model

BATCH = 256  # examples per forward pass: memory, not results


def predict(model: Model, images: np.ndarray) -> np.ndarray:
    """Log-probabilities, float32 `[examples, classes]`, an image a row, in order.

    Args:
        model: the network.
        images: uint8 `[examples, height, width, channels]`.
    """
    batches = []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        # Filled up, so that one compilation serves all; the filling is cut off again.
        full = np.zeros((BATCH, *images.shape[1:]), np.uint8)
        full[: len(batch)] = batch
        batches.append(np.asarray(forward(model, jnp.asarray(full)))[: len(batch)])
    return np.concatenate(batches)


@nnx.jit
def forward(model: Model, images: jax.Array) -> jax.Array:
    """Log-probabilities `[batch, classes]` of uint8 images."""
    return nnx.log_softmax(model(images))
