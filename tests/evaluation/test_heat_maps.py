"""Heat maps against hand formulas, and whether they depend on weights and place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.stats import spearmanr

from src.evaluation.heat_maps import heat_maps, map_evidence
from src.models.architecture import Architecture, Model
from src.models.build import build_model
from src.models.checkpoint import weights_of
from src.models.cnn import CNN
from tests.helpers.patches import (
    PATCH,
    logits,
    patch_images,
    patch_network,
    train,
)

CLASSES = np.array([0, 2, 1], np.int32)


def network(name, shape):
    architecture = Architecture(name, 12, 0.3, image_shape=shape, classes=3)
    model = build_model(architecture, nnx.Rngs(params=3))
    model.eval()
    return model


def pictures(shape, count=3):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8)


def scaled(maps):
    """The positive part of each map, divided by its largest number."""
    positive = np.maximum(maps, 0)
    return positive / np.maximum(positive.max((1, 2), keepdims=True), 1e-12)


@pytest.mark.parametrize(
    ("name", "shape", "map_shape"),
    [
        ("cnn", (10, 9, 3), (5, 4, 64)),
        ("cnn_max", (8, 8, 1), (4, 4, 64)),
        ("resnet", (28, 28, 1), (3, 3, 128)),
        ("resnet", (64, 64, 3), (4, 4, 128)),
        ("resnet18", (64, 32, 1), (2, 1, 512)),
    ],
)
def test_feature_map_has_the_places_of_the_last_convolution(name, shape, map_shape):
    images = jnp.asarray(pictures(shape))
    found = jax.eval_shape(lambda: network(name, shape).feature_map(images))
    assert found.shape == (3, *map_shape)


@pytest.mark.parametrize("name", ["cnn", "cnn_max"])
def test_feature_map_and_what_follows_it_are_the_network(name):
    model, images = network(name, (8, 8, 1)), jnp.asarray(pictures((8, 8, 1)))

    @nnx.jit
    def both(model, images):
        return model.from_feature_map(model.feature_map(images)), model(images)

    np.testing.assert_allclose(*both(model, images), rtol=1e-4, atol=1e-5)


class Averaged(Model):
    """Pixels in [0, 1], averaged over places, times weights."""

    def __init__(self, architecture, rngs):
        self.output = nnx.Linear(3, architecture.classes, rngs=rngs)

    def __call__(self, images, rngs=None):
        return self.from_feature_map(self.feature_map(images), rngs)

    def feature_map(self, images):
        return images.astype(jnp.float32) / 255

    def from_feature_map(self, feature_map, rngs=None):
        return self.output(feature_map.mean((1, 2)))


def test_map_of_a_linear_network_is_its_sum_place_by_place():
    architecture = Architecture("mlp", None, 0.0, image_shape=(4, 5, 3), classes=3)
    model, images = Averaged(architecture, nnx.Rngs(0)), pictures((4, 5, 3))
    kernel, bias = (np.asarray(each[...]) for each in vars_of(model.output))
    expected = np.stack(
        [
            image / 255 @ kernel[:, c] / 20
            for image, c in zip(images, CLASSES, strict=True)
        ]
    )
    evidence, valid = map_evidence(model, images, CLASSES)
    assert valid
    np.testing.assert_allclose(evidence, expected, rtol=1e-4, atol=1e-6)
    chosen = logits(model, images)[np.arange(3), CLASSES] - bias[CLASSES]
    np.testing.assert_allclose(expected.sum((1, 2)), chosen, rtol=1e-4, atol=1e-5)
    found = heat_maps(model, images, CLASSES)
    np.testing.assert_allclose(found, scaled(expected), rtol=1e-4, atol=1e-5)


def vars_of(linear):
    return linear.kernel, linear.bias


@pytest.mark.parametrize("name", ["cnn", "cnn_max"])
def test_map_is_the_feature_map_times_finite_differences(name):
    model, images = network(name, (8, 8, 1)), pictures((8, 8, 1))
    features = np.asarray(model.feature_map(jnp.asarray(images)))
    rows, step = np.arange(3), 2e-3

    def chosen(features):
        found = model.from_feature_map(jnp.asarray(features))
        return np.asarray(found, np.float64)[rows, CLASSES]

    expected = np.zeros(features.shape[:3])
    place = (slice(None), 1, 2)
    for channel in range(features.shape[3]):
        moved = np.zeros_like(features)
        moved[*place, channel] = step
        slope = (chosen(features + moved) - chosen(features - moved)) / (2 * step)
        expected[place] += slope * features[*place, channel]
    found = np.asarray(map_evidence(model, images, CLASSES)[0])
    np.testing.assert_allclose(found[place], expected[place], rtol=0.03, atol=2e-3)


def test_map_of_a_dense_network_is_the_size_of_its_gradient_to_the_pixels():
    model, images = network("mlp", (4, 5, 3)), pictures((4, 5, 3))
    weights = weights_of(model)
    pixels = images.reshape(3, -1) / np.float32(255)
    active = pixels @ weights["dense.kernel"] + weights["dense.bias"] > 0
    outputs = weights["output.kernel"][:, CLASSES].T  # [images, units]
    gradients = (active * outputs) @ weights["dense.kernel"].T / 255
    expected = np.abs(gradients.reshape(images.shape)).max(3)
    found = heat_maps(model, images, CLASSES)
    np.testing.assert_allclose(found, scaled(expected), rtol=1e-3, atol=1e-5)


def test_place_that_speaks_against_the_class_is_cold():
    architecture = Architecture("mlp", None, 0.0, image_shape=(4, 5, 3), classes=3)
    model = Averaged(architecture, nnx.Rngs(0))
    model.output.kernel[...] = -jnp.ones((3, 3))
    assert not heat_maps(model, pictures((4, 5, 3)), CLASSES).any()


def test_no_images_have_no_maps():
    none = np.zeros((0, 8, 8, 1), np.uint8)
    assert len(heat_maps(network("cnn", (8, 8, 1)), none, np.zeros(0, np.int32))) == 0


class Otherwise(CNN):
    """Overrides `__call__` alone: what follows the feature map is not this network."""

    def __call__(self, images, rngs=None):
        return self.output(nnx.relu(-self.dense(self.flat(images))))

    def flat(self, images):
        return self.features(self.normalize(images)).reshape(len(images), -1)


def test_network_whose_feature_map_is_another_networks_gets_the_gradient_to_pixels():
    architecture = Architecture("cnn", 12, 0.0, image_shape=(8, 8, 1), classes=3)
    model, images = Otherwise(architecture, nnx.Rngs(0)), pictures((8, 8, 1))
    model.eval()
    assert heat_maps(model, images, CLASSES).shape == (3, 8, 8)


@pytest.fixture(scope="module", params=["mlp", "cnn", "cnn_max"])
def patched(request):
    """A trained network, images, their classes and maps."""
    model = train(patch_network(request.param))
    images, labels = patch_images(40, seed=2)
    predicted = logits(model, images).argmax(1).astype(np.int32)
    assert (predicted == labels).mean() >= 0.95
    return request.param, model, images, predicted, heat_maps(model, images, predicted)


def test_map_points_at_the_patch_that_decides(patched):
    *_, images, _, maps = patched
    scale = images.shape[1] // maps.shape[1]
    hottest = maps.reshape(len(maps), -1).argmax(1)
    rows, columns = np.divmod(hottest, maps.shape[2])
    # A feature has seen the pixels around its own.
    inside = [
        (patch.start // scale - 1 <= place) & (place <= (patch.stop - 1) // scale + 1)
        for patch, place in zip(PATCH, (rows, columns), strict=True)
    ]
    assert (inside[0] & inside[1]).mean() >= 0.9


def test_map_depends_on_the_weights(patched):
    """Model parameter randomization, Adebayo et al. 2018, arXiv:1810.03292."""
    name, model, images, predicted, maps = patched
    other = heat_maps(patch_network(name, seed=5), images, predicted)
    alike = [
        spearmanr(one.ravel(), two.ravel()).statistic
        for one, two in zip(maps, other, strict=True)
        if one.any() and two.any()
    ]
    assert len(alike) >= 20
    assert abs(np.mean(alike)) < 0.5
    same = heat_maps(nnx.clone(model), images, predicted)
    np.testing.assert_array_equal(maps, same)
