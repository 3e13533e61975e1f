"""Small untrained networks to export, and their probabilities."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.config.names import FormatName
from src.models.architecture import Architecture
from src.models.build import build_model
from src.models.checkpoint import Record, Trained, weights_of

FORMATS = list(FormatName.__args__)


def untrained(name, shape=(8, 8, 1)):
    architecture = Architecture(name, 8, 0.3, image_shape=shape, classes=3)
    model = build_model(architecture, nnx.Rngs(params=1))
    record = Record(
        architecture=architecture,
        class_names=["low", "middle", "high"],
        sha256="",
        history_sha256="",
        parameters={"top_k": 2},
    )
    return Trained(model, weights_of(model), record)


def probabilities(trained, images):
    return np.asarray(nnx.softmax(trained.model(jnp.asarray(images))))
