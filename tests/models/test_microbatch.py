"""Slices of a batch against the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from src.models import microbatch
from src.models.microbatch import in_slices, save_for_backward
from src.models.pooling import relu_average_pool, relu_max_pool


def some(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("batch", [1, 31, 32, 48, 64, 67, 100])
def test_slices_give_the_results_of_the_whole_batch(batch):
    images, weights = some(batch, 5), some(5, 4)

    def loss(weights, images, sliced):
        def function(images):
            return jnp.tanh(save_for_backward(images @ weights)) ** 2

        outputs = in_slices(function, images) if sliced else function(images)
        return (outputs * some(batch, 4)).sum()

    found, expected = (
        jax.value_and_grad(loss, argnums=(0, 1))(weights, images, sliced)
        for sliced in (True, False)
    )
    for mine, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("batch", "side", "size"),
    [
        (64, 8, 16),
        (30, 8, 15),
        (100, 8, 10),
        (16, 8, 16),
        (67, 8, 67),
        (34, 8, 34),  # 2 is less than half of 16
        (64, 28, 4),
        (100, 28, 5),
        (21, 28, 3),
        (4, 28, 4),
        (67, 28, 67),
        (22, 28, 11),  # 2 is less than half of 5, so the next larger divisor
        (14, 28, 7),
        (32, 64, 1),
        (7, 99, 1),
    ],
)
def test_slice_divides_the_batch_and_has_nearly_4096_pixels_or_16_images(
    batch, side, size, monkeypatch
):
    monkeypatch.setattr(microbatch, "within_device", lambda: True)
    seen = []

    def function(images):
        seen.append(images.shape[0])
        return images

    in_slices(function, some(batch, side, side))
    assert set(seen) == {size}


def test_slice_of_a_single_device_has_16_images_of_any_size():
    seen = []
    in_slices(lambda images: seen.append(len(images)) or images, some(64, 64, 64))
    assert set(seen) == {16}


@pytest.mark.parametrize("shape", [(64, 6, 6, 2), (8, 28, 28, 2), (3, 64, 64, 2)])
@pytest.mark.parametrize("pool", [relu_average_pool, relu_max_pool])
def test_pooling_in_slices_has_the_gradient_of_the_whole_batch(
    pool, shape, monkeypatch
):
    monkeypatch.setattr(microbatch, "within_device", lambda: True)
    images = some(*shape)

    def loss(images, sliced):
        outputs = in_slices(pool, images) if sliced else pool(images)
        return (outputs * some(*outputs.shape)).sum()

    found, expected = (jax.grad(loss)(images, sliced) for sliced in (True, False))
    np.testing.assert_array_equal(found, expected)
