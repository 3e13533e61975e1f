"""Plays an exported network with numpy alone; this file, two beside it, nothing else.

    from numpy_predictor import load
    classify = load(".")           # the folder with manifest.json and weights.npz
    probabilities = classify(images)

Convolutions are one matrix product of all 3x3 patches; sums are float32.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

BATCH = 64  # images at a time: memory, not results


def load(folder: str | Path) -> Callable[[np.ndarray], np.ndarray]:
    """The network as a function.

    Args:
        folder: where manifest.json and weights.npz lie.

    Returns:
        Uint8 `[n, height, width, channels]` to float32 probabilities `[n, classes]`;
        it raises ValueError for other images.
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
        parts = [
            images[start : start + BATCH] for start in range(0, len(images), BATCH)
        ]
        return np.concatenate([probabilities(layers, weights, part) for part in parts])

    return classify


def probabilities(
    layers: list[dict[str, str]], weights: dict[str, np.ndarray], images: np.ndarray
) -> np.ndarray:
    """Float32 `[n, classes]` of uint8 images."""
    hidden = images.astype(np.float32) / np.float32(255)
    for layer in layers:
        match layer["kind"]:
            case "convolve":
                hidden = convolve(hidden, *of_layer(weights, layer))
            case "dense":
                kernel, bias = of_layer(weights, layer)
                hidden = hidden @ kernel + bias
            case "relu":
                hidden = np.maximum(hidden, 0)
            case "average_pool":
                hidden = blocks(hidden).mean((2, 4))
            case "max_pool":
                hidden = blocks(hidden).max((2, 4))
            case "flatten":
                hidden = hidden.reshape(len(hidden), -1)
            case kind:
                raise ValueError(f"{kind}: no layer that is known here")
    shares = np.exp(hidden - hidden.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def of_layer(
    weights: dict[str, np.ndarray], layer: dict[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """A layer's kernel and bias."""
    name = layer["weights"]
    return weights[f"{name}.kernel"], weights[f"{name}.bias"]


def convolve(images: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Stride 1, padded with zeros to the same size."""
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


def blocks(images: np.ndarray) -> np.ndarray:
    """`[n, height / 2, 2, width / 2, 2, channels]`: an odd edge is lost."""
    batch, height, width, channels = images.shape
    rows, columns = height // 2, width // 2
    even = images[:, : 2 * rows, : 2 * columns]
    return even.reshape(batch, rows, 2, columns, 2, channels)
