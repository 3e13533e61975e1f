"""The networks, compared with the same layers written with Flax and numpy alone."""

from dataclasses import replace
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from src.config.names import ModelName
from src.data.examples import Examples
from src.data.prepared import Manifest
from src.errors import ParameterError
from src.evaluation.predict import predict
from src.models.architecture import Architecture
from src.models.build import MODELS, build_model
from src.models.checkpoint import weights_of
from src.training.batches import DeviceBatches, StreamedBatches
from src.training.state import choose_architecture, normalize_pixels

SHAPES = [(8, 8, 1), (13, 10, 3), (28, 28, 1)]


def network(name, shape=(8, 8, 1), dropout=0.0):
    architecture = Architecture(name, 12, dropout, image_shape=shape, classes=5)
    return build_model(architecture, nnx.Rngs(params=3))


def pictures(count, shape):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8)


def by_hand(name, weights, images):
    """The logits, computed layer by layer as the model's name says."""
    hidden = images / np.float32(255)
    for layer in ("conv1", "conv2") if name != "mlp" else ():
        kernel, bias = weights[f"{layer}.kernel"], weights[f"{layer}.bias"]
        hidden = lax.conv_general_dilated(
            hidden, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        hidden = np.maximum(hidden + bias.reshape(1, 1, 1, -1), 0)
        pool = nnx.max_pool if name == "cnn_max" else nnx.avg_pool
        hidden = pool(hidden, (2, 2), strides=(2, 2))
    hidden = np.asarray(hidden).reshape(len(images), -1)
    hidden = np.maximum(hidden @ weights["dense.kernel"] + weights["dense.bias"], 0)
    return hidden @ weights["output.kernel"] + weights["output.bias"]


def test_table_of_models_has_every_name_that_the_parameters_allow():
    assert set(MODELS) == set(get_args(ModelName))


@pytest.mark.parametrize(
    "shape",
    [SHAPES[0], *(pytest.param(each, marks=pytest.mark.slow) for each in SHAPES[1:])],
)
@pytest.mark.parametrize("name", ["mlp", "cnn", "cnn_max"])
def test_network_has_the_layers_that_its_name_says(name, shape):
    model, images = network(name, shape), pictures(3, shape)
    expected = by_hand(name, weights_of(model), images)
    found = jax.jit(model)(jnp.asarray(images))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "cnn", "cnn_max"])
def test_dropout_is_active_only_with_a_key(name):
    model = network(name, dropout=0.5)
    images = jnp.asarray(pictures(4, (8, 8, 1)))
    plain = model(images)
    np.testing.assert_array_equal(plain, model(images))
    dropped = [model(images, rngs=nnx.Rngs(dropout=seed)) for seed in (0, 1, 1)]
    assert np.any(dropped[0] != plain)
    assert np.any(dropped[0] != dropped[1])
    np.testing.assert_array_equal(dropped[1], dropped[2])


@pytest.mark.parametrize(
    ("name", "hidden", "units"),
    [("mlp", None, 256), ("cnn", None, 256), ("cnn_max", None, 128), ("cnn", 9, 9)],
)
def test_dense_layer_has_the_width_of_the_parameters_or_the_models_default(
    params, name, hidden, units
):
    params = params.model_copy(update={"model": name, "hidden": hidden})
    manifest = Manifest(
        dataset="d", version="1", class_names=["a"], image_shape=(8, 8, 1), sha256={}
    )
    model = build_model(choose_architecture(params, manifest), nnx.Rngs(params=0))
    assert weights_of(model)["dense.bias"].shape == (units,)


def test_images_too_small_for_two_poolings_are_refused(params):
    manifest = Manifest(
        dataset="d", version="1", class_names=["a"], image_shape=(8, 3, 1), sha256={}
    )
    changed = params.model_copy(update={"model": "cnn"})
    with pytest.raises(
        ParameterError, match="at least 4 pixels a side for cnn, found 8"
    ):
        choose_architecture(changed, manifest)


@pytest.mark.parametrize("count", [1, 256, 257])
def test_prediction_gives_every_image_its_own_row(count):
    model, images = network("cnn"), pictures(count, (8, 8, 1))
    logits = np.asarray(by_hand("cnn", weights_of(model), images), np.float64)
    expected = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(predict(model, images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["shift", "cutout"])
def test_augmentation_as_large_as_the_image_is_refused(params, name):
    manifest = Manifest.model_construct(image_shape=(8, 10, 1), class_names=["a", "b"])
    for pixels, fits in ((7, True), (8, False)):
        changes = {"augment": (name,), f"{name}_pixels": pixels}
        changed = params.model_copy(update=changes)
        if fits:
            choose_architecture(changed, manifest)
        else:
            with pytest.raises(
                ParameterError, match=r"than the image size, 8 x 10 .*Use 2"
            ):
                choose_architecture(changed, manifest)


@pytest.mark.parametrize("name", ["mlp", "cnn", "cnn_max"])
def test_normalized_network_sees_pixels_minus_mean_over_deviation(name):
    mean, deviation = (0.5, 0.25, 0.75), (0.5, 2.0, 0.25)
    architecture = Architecture(name, 12, 0.0, (8, 8, 3), 5)
    model = build_model(architecture, nnx.Rngs(params=3))
    normalized = replace(architecture, pixel_mean=mean, pixel_deviation=deviation)
    weights = weights_of(model)
    found = build_model(normalized, nnx.Rngs(params=3))(pictures(3, (8, 8, 3)))
    pixels = pictures(3, (8, 8, 3)) / np.float32(255)
    pixels = (pixels - np.float32(mean)) / np.float32(deviation)
    expected = by_hand(name, weights, pixels * np.float32(255))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "normalize", "expected"),
    [
        ("mlp", None, False),
        ("cnn_max", True, True),
        ("resnet", None, True),
        ("resnet", False, False),
    ],
)
def test_normalization_is_of_the_training_images_where_it_is_asked_for(
    params, name, normalize, expected
):
    params = params.model_copy(update={"model": name, "normalize": normalize})
    manifest = Manifest.model_construct(image_shape=(8, 8, 3), class_names=["a", "b"])
    images = pictures(20, (8, 8, 3))
    labels = np.zeros(20, np.int32)
    for source in (DeviceBatches, StreamedBatches):
        architecture = normalize_pixels(
            choose_architecture(params, manifest),
            params,
            source(Examples(images, labels)),
        )
        if not expected:
            assert architecture.pixel_mean is architecture.pixel_deviation is None
            continue
        pixels = images / 255
        np.testing.assert_allclose(architecture.pixel_mean, pixels.mean((0, 1, 2)))
        np.testing.assert_allclose(architecture.pixel_deviation, pixels.std((0, 1, 2)))
