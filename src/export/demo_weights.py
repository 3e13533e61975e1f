"""The weights of the demo page: of 16 bits where these give the same probabilities."""

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from src import paths
from src.export.shipped.numpy_predictor import PIXELS, run_graph

MAX_BYTES = 32_000_000  # of the weights in a page: more opens slowly on a phone
TOLERANCE = 0.001  # of probabilities; the page shows tenths of a percent
SMALL = 1024  # numbers: arrays of fewer, such as biases, stay exact
LARGEST = 2**15 - 1  # of int16

Arrays = Mapping[str, np.ndarray]
Encoded = dict[str, dict[str, Any]]  # by name; `decode_array` says what is inside


def choose_weights(
    graph: Mapping[str, Any],
    constants: Arrays,
    images: np.ndarray,
    expected: np.ndarray,
) -> tuple[Encoded | None, str]:
    """The smaller form of the weights that gives the network's probabilities.

    Neither form may change a probability by more than `TOLERANCE`. So a prediction can
    only change if the two most likely classes are within twice that of each other.

    Args:
        graph: as in manifest.json.
        constants: of the graph, float32, by name.
        images: to test the weights on, uint8 `[n, height, width, channels]`.
        expected: the network's probabilities, `[n, classes]`.

    Returns:
        The weights, or None, and one line: which weights, or why none.
    """
    faults = []
    for bits, encode in ((16, encode_rounded), (32, encode_exact)):
        encoded = encode(constants)
        if (size := encoded_bytes(encoded)) > MAX_BYTES:
            faults.append(f"{size / 1e6:.0f} MB with {bits} bits")
            continue
        difference = largest_difference(graph, encoded, images, expected)
        if difference <= TOLERANCE:
            return encoded, f"{bits}-bit weights, max difference {difference:.1e}"
        faults.append(f"a change of {difference:.2g} with {bits} bits")
    return None, (
        f"{paths.EXPORT / 'demo.html'}: expected weights of at most "
        f"{MAX_BYTES / 1e6:.0f} MB that change no probability by more than "
        f"{TOLERANCE}, found {' and '.join(faults)}. There is no page. Lower hidden, "
        "or use another model."
    )


def largest_difference(
    graph: Mapping[str, Any],
    encoded: Encoded,
    images: np.ndarray,
    expected: np.ndarray,
) -> float:
    """Between the page's probabilities and the network's; NaN if one is NaN."""
    constants = {name: decode_array(array) for name, array in encoded.items()}
    step = max(1, PIXELS // math.prod(images.shape[1:3]))
    parts = [images[start : start + step] for start in range(0, len(images), step)]
    found = np.concatenate([run_graph(graph, constants, part) for part in parts])
    return float(np.abs(found - expected).max())


def encode_exact(constants: Arrays) -> Encoded:
    """The constants as float32, sorted by name."""
    return {
        name: {"shape": constants[name].shape, "float32": to_base64(constants[name])}
        for name in sorted(constants)
    }


def encode_rounded(constants: Arrays) -> Encoded:
    """The constants with 16 bits, except small arrays and vectors.

    A number is an int16 times the scale of its channel. Errors are a fraction of those
    of float16, whose fraction has 11 bits.
    """
    encoded = encode_exact(constants)
    for name, array in constants.items():
        if array.size >= SMALL and array.ndim > 1:
            encoded[name] = round_array(array)
    return encoded


def round_array(array: np.ndarray) -> dict[str, Any]:
    """One array as int16 and scales, along the first or the last axis.

    Kernels of convolutions have their filters first, matrices their units last.
    """
    candidates = [(channel_scales(array, axis), axis) for axis in (0, array.ndim - 1)]
    scales, axis = min(candidates, key=lambda each: float(np.square(each[0]).mean()))
    integers = np.rint(array / np.where(scales > 0, scales, 1)).astype(np.int16)
    return {
        "shape": array.shape,
        "int16": to_base64(integers),
        "axis": axis,
        "scales": to_base64(scales),
    }


def channel_scales(array: np.ndarray, axis: int) -> np.ndarray:
    """What one step of int16 is worth in each channel; float32, broadcasts."""
    others = tuple(other for other in range(array.ndim) if other != axis)
    return (np.abs(array).max(others, keepdims=True) / LARGEST).astype(np.float32)


def decode_array(encoded: Mapping[str, Any]) -> np.ndarray:
    """The float32 array that the page computes with.

    Args:
        encoded: its `shape`, and either `float32`, or `int16`, `scales` and their
            `axis`: little-endian numbers in base64.
    """
    shape = encoded["shape"]
    if "float32" in encoded:
        return from_base64(encoded["float32"], "<f4").reshape(shape)
    sizes = [1] * len(shape)
    sizes[encoded["axis"]] = -1
    integers = from_base64(encoded["int16"], "<i2").reshape(shape)
    scales = from_base64(encoded["scales"], "<f4").reshape(sizes)
    return integers.astype(np.float32) * scales


def encoded_bytes(encoded: Encoded) -> int:
    """The size of all numbers in base64."""
    texts = ("float32", "int16", "scales")
    return sum(len(array.get(key, "")) for array in encoded.values() for key in texts)


def to_base64(array: np.ndarray) -> str:
    """The little-endian numbers of an array."""
    little = array.astype(array.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")


def from_base64(text: str, dtype: str) -> np.ndarray:
    """The numbers of a text by `to_base64`."""
    return np.frombuffer(base64.b64decode(text), dtype)
