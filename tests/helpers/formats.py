"""Small networks in the formats of the export."""

from dataclasses import replace
from functools import cache

import jax.numpy as jnp
import numpy as np
import onnxruntime
from flax import nnx

from src.config.names import FormatName
from src.export import convert
from src.export.formats import format_module
from src.export.fresh_process import FreshProcesses, unpack_files
from src.export.from_onnx import graph_of
from src.export.jax_to_onnx import convert_by_jax2onnx
from src.export.onnx_file import onnx_model
from src.export.shipped.numpy_predictor import run_graph
from src.export.tensorflow_converter import TensorflowConverter
from src.export.verify import image_file, prove_all
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
        epoch=1,
        parameters={"top_k": 2},
    )
    return TrainedModel(model, weights_of(model), record)


def as_trained(model, shape, classes=3):
    """Any network as training would leave it."""
    named = untrained("mlp").record
    architecture = replace(named.architecture, image_shape=shape, classes=classes)
    names = [f"class {index}" for index in range(classes)]
    update = {"architecture": architecture, "class_names": names}
    return TrainedModel(model, weights_of(model), named.model_copy(update=update))


def graph_for(logits, shape):
    """The graph of a network, or of any function from images to logits."""
    return graph_of(convert_by_jax2onnx(lambda x: nnx.softmax(logits(x)), shape))


def play(graph, images):
    """A graph's probabilities by the numpy predictor."""
    return run_graph(graph.record(), graph.constants, images)


def play_onnx(graph, images):
    """A graph's probabilities by onnxruntime."""
    classes = play(graph, images[:1]).shape[1]
    content = onnx_model(graph, images.shape[1:], classes).SerializeToString()
    session = onnxruntime.InferenceSession(content)
    return session.run(None, {"images": images})[0]


def probabilities(trained, images):
    return np.asarray(nnx.softmax(trained.model(jnp.asarray(images))))


@cache
def tensorflow():
    """One process for all tests: TensorFlow's import takes seconds."""
    return TensorflowConverter(())  # starts when it is needed


def convert_all(names, trained, images, **options):
    return convert.convert_all(names, trained, images, tensorflow(), **options)


def prove(names, export, test, expected):
    """Runs exported files on the test split, and judges them."""
    with FreshProcesses(()) as processes:
        images = image_file(test, processes.folder)
        for name in set(names) & export.manifest["formats"].keys():
            file = format_module(name).FILE
            processes.start(name, file, export.files, images)
        return prove_all(
            names, processes, export, test, expected, lambda images: images
        )


def exported(folder, names, trained, shape=(8, 8, 1)):
    """Writes the files of these formats into a folder."""
    export = convert_all(names, trained, patterned(60, 1, shape).images)
    unpack_files(export.files, folder)
    return export


def trained_network(**record):
    """A small network with a record as training writes it."""
    trained = untrained("cnn")
    fields = {
        "dataset": "digits",
        "dataset_version": "1.0.0",
        "parameters": {"top_k": 2, "seed": 7, "ema_decay": 0.0, "lr": 0.002},
        "data_sha256": {"train": "a" * 64},
        "versions": {"jax": "0.10.2"},
        **record,
    }
    record = trained.record.model_copy(update=fields)
    return type(trained)(trained.model, trained.weights, record)


@cache
def all_formats():
    """A small network and its export in all formats; converted once."""
    trained = trained_network()
    images = patterned(60, 1).images
    return trained, convert_all(FORMATS, trained, images)
