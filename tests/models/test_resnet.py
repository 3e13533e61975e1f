"""The residual network, compared with its formulas in numpy and lax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from src.data.prepared import Manifest
from src.models.architecture import Architecture
from src.models.build import build_model
from src.models.checkpoint import weights_of
from src.models.resnet import Stem, space_to_depth
from src.training.state import choose_architecture


def network(shape, filters=4, blocks=1, **changes):
    settings = {"filters": filters, "blocks": blocks, **changes}
    architecture = Architecture("resnet", None, 0.0, shape, classes=5, **settings)
    return build_model(architecture, nnx.Rngs(params=3))


def pictures(count, shape):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8)


def jittered(model):
    """In eval mode, with other scales, biases and statistics than at the start."""
    rng = np.random.default_rng(1)
    moved = jax.tree.map(
        lambda array: (
            array * rng.uniform(0.8, 1.2, array.shape).astype(np.float32)
            + rng.uniform(0, 0.02, array.shape).astype(np.float32)
        ),
        nnx.state(model),
    )
    nnx.update(model, moved)
    model.eval()
    return model


def convolved(weights, name, hidden):
    """Convolution and batch normalization by the running statistics."""
    return normalized(weights, name, conv(weights, name, hidden))


def conv(weights, name, hidden):
    return lax.conv_general_dilated(
        np.float32(hidden),
        weights[f"{name}.conv.kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def normalized(weights, name, outputs):
    mean, variance = weights[f"{name}.norm.mean"], weights[f"{name}.norm.var"]
    scaled = (np.asarray(outputs) - mean) / np.sqrt(variance + 1e-5)
    return scaled * weights[f"{name}.norm.scale"] + weights[f"{name}.norm.bias"]


def halved(hidden):
    return np.asarray(nnx.max_pool(hidden, (2, 2), strides=(2, 2)))


def by_hand(weights, images, patch, convs, blocks, mean, deviation):
    """The logits by the formulas of the paper."""
    hidden = (images / 255 - mean) / deviation
    if patch == 2:
        corners = [hidden[:, i::2, j::2] for i in range(2) for j in range(2)]
        hidden = np.concatenate(corners, -1)
    for number in range(convs):
        name = f"stem.layers.{number}"
        hidden = halved(conv(weights, name, hidden))
        hidden = np.maximum(normalized(weights, name, hidden), 0)
    for number in range(3 * blocks):
        name = f"blocks.{number}"
        short = hidden
        if number and number % blocks == 0:
            hidden = halved(hidden)
            short = convolved(weights, f"{name}.shortcut", hidden)
        branch = np.maximum(convolved(weights, f"{name}.first", hidden), 0)
        branch = convolved(weights, f"{name}.second", branch)
        hidden = np.maximum(short + branch, 0)
    return hidden.mean((1, 2)) @ weights["output.kernel"] + weights["output.bias"]


SIDES = (8, 9, 12, 16, 24, 28, 31, 48, 64, 128, 160, 224)


@pytest.mark.parametrize("height", SIDES)
def test_stem_of_oblong_images_leaves_pixels_for_every_stage(height):
    for width in SIDES:
        stem = Stem((height, width, 1), 4, nnx.Rngs(0))
        stem.eval()
        pixels = jax.ShapeDtypeStruct((2, height, width, 1), np.float32)
        sides = nnx.eval_shape(stem, pixels).shape[1:3]
        assert min(sides) >= 4
        assert max(sides) <= 28 or min(sides) < 8


@pytest.mark.parametrize(
    ("shape", "patch", "convs", "blocks"),
    [
        ((28, 28, 1), 1, 1, 1),
        ((64, 48, 3), 2, 1, 2),
        pytest.param((224, 224, 3), 2, 2, 1, marks=pytest.mark.slow),
    ],
)
def test_network_computes_the_formulas_of_the_paper(shape, patch, convs, blocks):
    channels = shape[-1]
    mean, deviation = (0.3, 0.4, 0.5)[:channels], (0.2, 0.3, 0.25)[:channels]
    model = jittered(
        network(shape, blocks=blocks, pixel_mean=mean, pixel_deviation=deviation)
    )
    images = pictures(3, shape)
    weights = weights_of(model)
    expected = by_hand(weights, images, patch, convs, blocks, mean, deviation)
    np.testing.assert_allclose(
        jax.jit(model)(jnp.asarray(images)), expected, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    ("side", "expected"),
    [(8, 4), (28, 14), (32, 16), (64, 16), (96, 24), (128, 16), (224, 28)],
)
def test_stem_leaves_at_most_28_pixels_a_side(side, expected):
    stem = Stem((side, side, 3), 8, nnx.Rngs(0))
    stem.eval()
    pixels = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    assert nnx.eval_shape(stem, pixels).shape == (2, expected, expected, 8)


@pytest.mark.slow
def test_224_pixels_cost_no_more_per_pixel_than_64():
    cost = {}
    for side in (64, 224):
        model = network((side, side, 3), filters=32)
        model.eval()
        images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
        for _, module in nnx.iter_modules(model):
            if hasattr(module, "conv_general_dilated"):
                module.conv_general_dilated = lax.conv_general_dilated
        analysis = jax.jit(model).lower(images).compile().cost_analysis()
        cost[side] = analysis["flops"] / side**2
    assert cost[224] <= cost[64]


def test_filters_double_at_each_stage_and_blocks_repeat(params):
    manifest = Manifest.model_construct(image_shape=(28, 28, 1), class_names=["a", "b"])
    for filters, blocks, widths in (
        (None, None, [32, 64, 128]),
        (4, 2, [4, 4, 8, 8, 16, 16]),
    ):
        changes = {"model": "resnet", "filters": filters, "blocks": blocks}
        architecture = choose_architecture(params.model_copy(update=changes), manifest)
        assert architecture.hidden is None
        weights = weights_of(build_model(architecture, nnx.Rngs(params=0)))
        found = [
            weights[f"blocks.{i}.second.norm.bias"].size for i in range(len(widths))
        ]
        assert found == widths
        assert f"blocks.{len(widths)}.second.norm.bias" not in weights


def test_space_to_depth_keeps_each_square_together():
    pixels = jnp.arange(2 * 5 * 4 * 3).reshape(2, 5, 4, 3)
    found = space_to_depth(pixels, 2)
    assert found.shape == (2, 2, 2, 12)
    np.testing.assert_array_equal(
        found[1, 1, 0], np.asarray(pixels)[1, 2:4, 0:2].reshape(-1)
    )
