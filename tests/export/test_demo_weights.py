"""The form of the demo page's weights."""

import re

import numpy as np
import pytest

from src.export import demo_weights
from src.export.demo_weights import (
    choose_weights,
    decode_array,
    encode_exact,
    encode_rounded,
    encoded_bytes,
)
from src.export.shipped.numpy_predictor import run_graph
from tests.helpers.graphs import dense_network

SHAPE = 8, 8, 1
IMAGES = np.random.default_rng(2).integers(0, 256, (30, *SHAPE), dtype=np.uint8)
IMAGES[:, 0, 0] = 0


@pytest.fixture
def network():
    """A graph, its constants and its probabilities."""
    graph, constants = dense_network(SHAPE, 10, units=64)
    return graph, constants, run_graph(graph, constants, IMAGES)


def spoil_rounding(constants):
    """Large weights where they change nothing: of the first pixel, which is black."""
    constants["kernel1"][0] = constants["kernel1"][:, 0] = 1e4
    constants["kernel2"][0] = 0


def test_weights_have_16_bits_if_the_probabilities_stay(network):
    graph, constants, expected = network
    encoded, note = choose_weights(graph, constants, IMAGES, expected)
    assert note.startswith("16-bit weights, max difference ")
    assert {name for name in encoded if "int16" in encoded[name]} == {"kernel1"}
    decoded = {name: decode_array(array) for name, array in encoded.items()}
    found = run_graph(graph, decoded, IMAGES)
    largest = np.abs(found - expected).max()
    assert 0 < largest < 1e-4
    assert float(note.split()[-1]) == pytest.approx(largest, rel=0.05)


def test_weights_have_32_bits_if_16_change_probabilities(network):
    graph, constants, _ = network
    spoil_rounding(constants)
    expected = run_graph(graph, constants, IMAGES)
    encoded, note = choose_weights(graph, constants, IMAGES, expected)
    assert note == "32-bit weights, max difference 0.0e+00"
    for name, array in encoded.items():
        np.testing.assert_array_equal(decode_array(array), constants[name])


def test_page_of_too_many_megabytes_is_refused(network):
    graph, constants, expected = network
    constants["large"] = np.zeros((2500, 5000), np.float32)
    assert choose_weights(graph, constants, IMAGES, expected) == (
        None,
        "models/export/demo.html: expected weights of at most 32 MB that change no "
        "probability by more than 0.001, found 33 MB with 16 bits and 67 MB with 32 "
        "bits. There is no page. Lower hidden, or use another model.",
    )


def test_limit_is_on_each_form_of_the_weights(network, monkeypatch):
    graph, constants, expected = network
    size = encoded_bytes(encode_rounded(constants))
    monkeypatch.setattr(demo_weights, "MAX_BYTES", size)
    assert choose_weights(graph, constants, IMAGES, expected)[0] is not None
    spoil_rounding(constants)
    expected = run_graph(graph, constants, IMAGES)
    encoded, note = choose_weights(graph, constants, IMAGES, expected)
    assert encoded is None
    assert re.search(
        r"found a change of 0\.\d+ with 16 bits and 0 MB with 32 bits", note
    )


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_page_of_other_probabilities_is_refused(network, wrong):
    graph, constants, expected = network
    encoded, note = choose_weights(graph, constants, IMAGES, expected + wrong)
    assert encoded is None
    change = f"a change of {wrong:.2g} with"
    assert f"{change} 16 bits and {change} 32 bits" in note


@pytest.mark.parametrize(("shape", "axis"), [((40, 5, 3, 3), 0), ((60, 70), 1)])
def test_rounding_is_half_a_step_of_the_channel_at_most(shape, axis):
    rng = np.random.default_rng(3)
    sizes = [shape[axis] if each == axis else 1 for each in range(len(shape))]
    array = rng.normal(0, 1, shape) * np.exp(rng.normal(0, 2, sizes))
    array[(slice(None),) * axis + (3,)] = 0
    array = array.astype(np.float32)
    encoded = encode_rounded({"kernel": array})["kernel"]
    assert encoded["axis"] == axis
    others = tuple(each for each in range(len(shape)) if each != axis)
    step = np.abs(array).max(others, keepdims=True) / 32767
    errors = np.abs(decode_array(encoded) - array)
    assert (errors <= 0.501 * step).all()


def test_small_arrays_and_vectors_stay_exact():
    constants = {
        "few": np.zeros((31, 33), np.float32),
        "vector": np.zeros(5000, np.float32),
        "number": np.array(1 / 3, np.float32),
    }
    assert encode_rounded(constants) == encode_exact(constants)


def test_16_bits_halve_the_weights():
    constants = {"kernel": np.ones((300, 400), np.float32)}
    rounded, exact = encode_rounded(constants), encode_exact(constants)
    assert encoded_bytes(rounded) < 0.51 * encoded_bytes(exact)
