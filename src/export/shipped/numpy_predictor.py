"""Runs an exported network with NumPy alone.

    from numpy_predictor import load_predictor
    classify = load_predictor(".")  # the folder with manifest.json and weights.npz
    probabilities = classify(images)

A convolution is one matrix product over all patches, in float32.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

SLICE = 64  # images per pass


def load_predictor(folder: str | Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads the network as a function.

    Args:
        folder: contains manifest.json and weights.npz.

    Returns:
        Uint8 `[n, height, width, channels]` to float32 probabilities `[n, classes]`.
        It raises ValueError for other images.
    """
    manifest = json.loads(Path(folder, "manifest.json").read_text("utf-8"))
    layers, expected = manifest["layers"], manifest["input"]["shape"][1:]
    with np.load(Path(folder, "weights.npz"), allow_pickle=False) as file:
        weights = {name: file[name] for name in file.files}

    def classify(images: np.ndarray) -> np.ndarray:
        if images.dtype != np.uint8 or list(images.shape[1:]) != expected:
            raise ValueError(
                f"expected images of uint8 {expected}, found {images.dtype} "
                f"{list(images.shape[1:])}"
            )
        starts = range(0, len(images), SLICE)
        slices = [images[start : start + SLICE] for start in starts]
        return np.concatenate([forward_pass(layers, weights, each) for each in slices])

    return classify


def forward_pass(
    layers: list[dict[str, str]], weights: dict[str, np.ndarray], images: np.ndarray
) -> np.ndarray:
    """Float32 probabilities `[n, classes]` of uint8 images."""
    hidden = images.astype(np.float32) / np.float32(255)
    for layer in layers:
        match layer["kind"]:
            case "convolve":
                hidden = conv2d(hidden, *of_layer(weights, layer))
            case "dense":
                kernel, bias = of_layer(weights, layer)
                hidden = hidden @ kernel + bias
            case "relu":
                hidden = np.maximum(hidden, 0)
            case "average_pool":
                hidden = pool_windows(hidden).mean((2, 4))
            case "max_pool":
                hidden = pool_windows(hidden).max((2, 4))
            case "flatten":
                hidden = hidden.reshape(len(hidden), -1)
            case kind:
                raise ValueError(f"{kind}: unknown kind of layer")
    powers = np.exp(hidden - hidden.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def of_layer(
    weights: dict[str, np.ndarray], layer: dict[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of one layer."""
    name = layer["weights"]
    return weights[f"{name}.kernel"], weights[f"{name}.bias"]


def conv2d(images: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Convolution with stride 1 and zero padding to the same size."""
    batch, height, width, channels = images.shape
    rows, columns, _, filters = kernel.shape
    pads = [((size - 1) // 2, size // 2) for size in (rows, columns)]
    padded = np.pad(images, ((0, 0), *pads, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (rows, columns), axis=(1, 2)
    )
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(batch * height * width, -1)
    outputs = patches @ kernel.reshape(rows * columns * channels, filters) + bias
    return outputs.reshape(batch, height, width, filters)


def pool_windows(images: np.ndarray) -> np.ndarray:
    """`[n, height / 2, 2, width / 2, 2, channels]`; an odd edge is dropped."""
    batch, height, width, channels = images.shape
    rows, columns = height // 2, width // 2
    even = images[:, : 2 * rows, : 2 * columns]
    return even.reshape(batch, rows, 2, columns, 2, channels)
