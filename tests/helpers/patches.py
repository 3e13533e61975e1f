"""Images whose class is decided by a patch at a known place, and a network for them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from src.models.architecture import Architecture
from src.models.build import build_model
from src.training.losses import cross_entropy

SHAPE = 16, 16, 1
PATCH = slice(2, 6), slice(9, 13)  # rows, columns


def patch_images(count, seed):
    """Noise with a patch of horizontal (class 0) or vertical (class 1) stripes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count, dtype=np.int32)
    images = rng.integers(0, 120, (count, *SHAPE), dtype=np.uint8)
    stripes = np.tile(np.array([[255], [0]], np.uint8), (2, 4))
    for image, label in zip(images, labels, strict=True):
        image[PATCH[0], PATCH[1], 0] = stripes.T if label else stripes
    return images, labels


def patch_network(name, seed=0):
    """A network for these images with its initial weights."""
    architecture = Architecture(name, 16, 0.0, image_shape=SHAPE, classes=2)
    model = build_model(architecture, nnx.Rngs(params=seed))
    model.eval()
    return model


def train(model, steps=30):
    """Trains on these images in place; returns the model."""
    images, labels = map(jnp.asarray, patch_images(64, seed=1))
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            return cross_entropy(model(images), labels, 0.0).mean()

        optimizer.update(model, nnx.grad(loss)(model))

    for _ in range(steps):
        step(model, optimizer)
    return model


def logits(model, images):
    return np.asarray(jax.jit(model)(jnp.asarray(images)))
