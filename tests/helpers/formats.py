"""Small networks in the formats of the export."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.config.names import FormatName
from src.export.formats import convert_all
from src.export.verify import unpack_files
from src.models.architecture import Architecture
from src.models.build import build_model
from src.models.checkpoint import ModelRecord, TrainedModel, weights_of
from tests.helpers.examples import patterned

FORMATS = list(FormatName.__args__)


def untrained(name, shape=(8, 8, 1)):
    architecture = Architecture(name, 8, 0.3, image_shape=shape, classes=3)
    model = build_model(architecture, nnx.Rngs(params=1))
    record = ModelRecord(
        architecture=architecture,
        class_names=["low", "middle", "high"],
        sha256="",
        history_sha256="",
        parameters={"top_k": 2},
    )
    return TrainedModel(model, weights_of(model), record)


def probabilities(trained, images):
    return np.asarray(nnx.softmax(trained.model(jnp.asarray(images))))


def exported(folder, names, trained, shape=(8, 8, 1)):
    """Writes the files of these formats into a folder."""
    export = convert_all(
        names, trained, patterned(60, 1, shape).images, layers_agree=True
    )
    unpack_files(export.files, folder)
    return export
