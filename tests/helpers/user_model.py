"""A network that a user might write from Flax's documentation."""

import jax.numpy as jnp
import numpy as np
from flax import nnx


class UserModel(nnx.Module):
    """Batch and layer norm, depthwise and strided convolutions, concatenation, GELU."""

    def __init__(self, channels, classes, *, rngs):
        self.stem = nnx.Conv(
            channels, 16, kernel_size=(3, 3), strides=2, use_bias=False, rngs=rngs
        )
        self.batch_norm = nnx.BatchNorm(16, rngs=rngs)
        self.depthwise = nnx.Conv(
            16, 16, kernel_size=(3, 3), feature_group_count=16, rngs=rngs
        )
        self.layer_norm = nnx.LayerNorm(16, rngs=rngs)
        self.pointwise = nnx.Conv(16, 24, kernel_size=(1, 1), rngs=rngs)
        self.down = nnx.Conv(40, 32, kernel_size=(3, 3), strides=2, rngs=rngs)
        self.second_norm = nnx.BatchNorm(32, rngs=rngs)
        self.dropout = nnx.Dropout(0.1)
        self.head = nnx.Linear(32, classes, rngs=rngs)

    def __call__(self, images, rngs=None):
        hidden = images.astype(jnp.float32) / 255
        hidden = nnx.relu(self.batch_norm(self.stem(hidden)))
        hidden = nnx.max_pool(hidden, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        branch = nnx.gelu(self.pointwise(self.layer_norm(self.depthwise(hidden))))
        hidden = jnp.concatenate([hidden, branch], axis=-1)
        hidden = nnx.gelu(self.second_norm(self.down(hidden)), approximate=False)
        hidden = self.dropout(
            hidden.mean((1, 2)), deterministic=rngs is None, rngs=rngs
        )
        return self.head(hidden)


def user_model(channels, classes, seed=0):
    """The network with statistics that are not those of the start."""
    model = UserModel(channels, classes, rngs=nnx.Rngs(seed))
    rng = np.random.default_rng(seed)
    for norm in (model.batch_norm, model.second_norm):
        shape = norm.mean[...].shape
        norm.mean[...] = jnp.asarray(rng.normal(0, 0.2, shape), jnp.float32)
        norm.var[...] = jnp.asarray(rng.uniform(0.3, 2, shape), jnp.float32)
        norm.scale[...] = jnp.asarray(rng.uniform(0.5, 1.5, shape), jnp.float32)
        norm.bias[...] = jnp.asarray(rng.normal(0, 0.2, shape), jnp.float32)
    model.eval()
    return model


def blocks(shape, count, seed=0):
    """Pictures of large patches: noise alone would give the same answer for all."""
    rng = np.random.default_rng(seed)
    rows, columns, channels = shape
    coarse = rng.integers(0, 256, (count, 4, 4, channels), dtype=np.uint8)
    across = np.ix_(np.arange(rows) * 4 // rows, np.arange(columns) * 4 // columns)
    return coarse[:, across[0], across[1]]


def undecided(model, images, spread=2.0):
    """The network with a last layer that gives all classes, from sure to unsure."""
    head = model.head if hasattr(model, "head") else model.output
    logits = np.asarray(model(jnp.asarray(images)))
    factor = spread / logits.std(0)
    head.kernel[...] = jnp.asarray(np.asarray(head.kernel[...]) * factor)
    bias = np.asarray(head.bias[...]) - logits.mean(0)
    head.bias[...] = jnp.asarray(bias * factor)
    return model
