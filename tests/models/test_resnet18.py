"""ResNet-18 against torchvision's answers, from benchmarks/golden_resnet18.py."""

import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax

from src.data.prepared import Manifest
from src.errors import ParameterError
from src.models.architecture import Architecture
from src.models.build import build_model
from src.models.checkpoint import dotted, weights_of, with_weights
from src.models.loop_convolution import loop_convolution
from src.models.resnet18 import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    from_torch_state,
    is_torch_state,
    overlapping_max_pool,
)
from src.training.state import choose_architecture
from tests.helpers.imports import ROOT
from tests.helpers.torch_resnet18 import (
    CLASSES,
    STEP_IMAGES,
    draw_direction,
    draw_images,
    draw_labels,
    draw_state,
)

GOLDEN = json.loads((ROOT / "tests/golden_resnet18.json").read_text())


def build(shape=(64, 64, 3), mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION):
    architecture = Architecture(
        model="resnet18",
        hidden=None,
        dropout=0.0,
        image_shape=shape,
        classes=CLASSES,
        pixel_mean=mean,
        pixel_deviation=deviation,
    )
    return nnx.eval_shape(lambda: build_model(architecture, nnx.Rngs(params=0)))


@cache
def loaded():
    """The network with the drawn state dict."""
    return with_weights(build(), from_torch_state(draw_state()))


def logits_of(model, images, convolution=lax.conv_general_dilated):
    """The logits with the running statistics."""
    model = nnx.clone(model)
    model.set_attributes(conv_general_dilated=convolution)
    model.eval()
    return np.asarray(nnx.jit(lambda model, images: model(images))(model, images))


@pytest.mark.parametrize(
    ("size", "convolution"),
    [
        ("small", lax.conv_general_dilated),
        ("large", lax.conv_general_dilated),
        pytest.param("small", loop_convolution, marks=pytest.mark.slow),
        pytest.param("large", loop_convolution, marks=pytest.mark.slow),
    ],
)
def test_logits_are_torchvisions(size, convolution):
    found = logits_of(loaded(), jnp.asarray(draw_images(size)), convolution)
    expected = np.array(GOLDEN["logits"][size])
    # The largest logit is 26: 1e-5 is five times its last bit.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def step():
    """The loss, the gradients, and the model after the step."""
    model = nnx.clone(loaded())
    model.set_attributes(conv_general_dilated=lax.conv_general_dilated)
    model.train()
    images = jnp.asarray(draw_images("small")[:STEP_IMAGES])
    labels = jnp.asarray(draw_labels())

    @nnx.jit
    def loss_and_grads(model):
        def loss_fn(model):
            losses = optax.softmax_cross_entropy_with_integer_labels(
                model(images), labels
            )
            return losses.mean()

        return nnx.value_and_grad(loss_fn)(model)

    loss, grads = loss_and_grads(model)
    return loss, grads, model


def in_torch_axes(array):
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, (0,))
    return np.transpose(np.asarray(array, np.float64), axes)


@pytest.mark.slow
def test_loss_of_a_training_step_is_torchvisions(step):
    assert float(step[0]) == pytest.approx(GOLDEN["loss"], abs=1e-5)


def test_gradients_of_a_training_step_are_torchvisions(step):
    weights = {
        ".".join(map(str, path)): in_torch_axes(variable[...])
        for path, variable in nnx.to_flat_state(step[1])
    }
    names = {".kernel": ".weight", ".scale": ".weight"}
    found = {
        name.removesuffix(end) + names[end] if end in names else name: array
        for name, array in weights.items()
        for end in [f".{name.rpartition('.')[2]}"]
    }
    assert found.keys() == GOLDEN["norms"].keys()
    for name, grad in found.items():
        norm = GOLDEN["norms"][name]
        projection = float((grad * draw_direction(name, grad.shape)).sum())
        assert np.linalg.norm(grad) == pytest.approx(norm, rel=1e-4), name
        expected = GOLDEN["projections"][name]
        assert projection == pytest.approx(expected, abs=1e-4 * norm), name
    for name, expected in GOLDEN["grads"].items():
        error = np.linalg.norm(found[name] - np.array(expected))
        assert error < 1e-4 * GOLDEN["norms"][name], name


def test_statistics_after_a_step_are_torchvisions_but_for_its_n_minus_1(step):
    """torch keeps the variance with n - 1, Flax with n."""
    bn1, state = step[2].bn1, draw_state()
    expected = np.array(GOLDEN["statistics"]["bn1.running_mean"])
    np.testing.assert_allclose(bn1.mean[...], expected, atol=1e-6)
    count = STEP_IMAGES * 32 * 25  # conv1 halves 64 x 50
    before = 0.9 * state["bn1.running_var"]
    unbiased = np.array(GOLDEN["statistics"]["bn1.running_var"]) - before
    expected = before + unbiased * (count - 1) / count
    np.testing.assert_allclose(bn1.var[...], expected, rtol=1e-5)


def test_state_dict_of_torchvision_is_the_whole_network():
    names = {dotted(path) for path, _ in nnx.to_flat_state(nnx.state(build()))}
    assert from_torch_state(draw_state()).keys() == names


def test_names_of_a_state_dict_tell_it_from_a_trained_model():
    assert is_torch_state(draw_state())
    assert not is_torch_state(from_torch_state(draw_state()))


def test_grey_images_answer_as_three_equal_channels():
    model = loaded()
    grey = build(shape=(32, 32, 1))
    grey = with_weights(grey, weights_of(model))
    images = draw_images("small")[:2, :32, :32, :1]
    expected = logits_of(model, jnp.asarray(np.repeat(images, 3, axis=-1)))
    np.testing.assert_allclose(
        logits_of(grey, jnp.asarray(images)), expected, rtol=0, atol=2e-5
    )


def test_grey_images_have_statistics_of_one_channel_or_of_three():
    images = jnp.asarray(draw_images("small")[:2, :32, :32, :1])
    one, three = (
        with_weights(
            build((32, 32, 1), mean=(0.4,) * count, deviation=(0.2,) * count),
            from_torch_state(draw_state()),
        )
        for count in (1, 3)
    )
    np.testing.assert_array_equal(logits_of(one, images), logits_of(three, images))


def test_images_below_32_pixels_are_refused(params):
    manifest = Manifest.model_construct(image_shape=(32, 31, 3), class_names=["a", "b"])
    changed = params.model_copy(update={"model": "resnet18"})
    with pytest.raises(ParameterError, match="at least 32 pixels a side for resnet18"):
        choose_architecture(changed, manifest)


def test_smallest_images_leave_one_pixel_for_the_average():
    model = build(shape=(32, 32, 3))
    model.eval()
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.uint8)
    logits = nnx.eval_shape(lambda model, images: model(images), model, images)
    assert logits.shape == (2, CLASSES)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (8, 6)])
def test_pooling_is_that_of_flax_with_its_gradient(size):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((2, *size, 3)), jnp.float32)
    weights = jnp.asarray(rng.standard_normal(overlapping_max_pool(images).shape))

    def plain(images):
        return nnx.max_pool(images, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

    np.testing.assert_array_equal(overlapping_max_pool(images), plain(images))
    found, expected = (
        jax.grad(lambda images, pool=pool: (pool(images) * weights).sum())(images)
        for pool in (overlapping_max_pool, plain)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
