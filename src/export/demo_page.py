"""A page that runs the network: one file, without a network connection or a library.

`demo.html` beside this file is the page; it plays the list of layers in JavaScript.
All that differs between two networks is one JSON text in the middle of it.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.models.checkpoint import TrainedModel
from src.models.layer_list import Layer

TEMPLATE = Path(__file__).with_name("demo.html")
PLACEHOLDER = '"THE NETWORK AS JSON"'  # once in the template, valid JSON as it stands
# So that no name can close the script that the JSON stands in, nor open a comment.
ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}


def demo_page(trained: TrainedModel, manifest: Mapping[str, Any]) -> bytes:
    """The page for a network; `manifest` is what the export's manifest.json says."""
    architecture = trained.record.architecture
    return build_demo(
        trained.model.layers(),
        trained.weights,
        architecture.image_shape,
        trained.record.class_names,
        manifest["input"]["background"],
        f"{architecture.model} on {manifest['model'].get('dataset', 'images')}",
    )


def build_demo(
    layers: Sequence[Layer],
    weights: Mapping[str, np.ndarray],
    image_shape: tuple[int, int, int],
    class_names: Sequence[str],
    background: float,
    title: str,
) -> bytes:
    """The page as UTF-8; the same arguments give the same bytes.

    Args:
        layers: the network.
        weights: of those layers, by name; others are left out.
        image_shape: height, width and channels (1, grey, or 3, RGB) of its images.
        class_names: what its outputs mean, in order; any text.
        background: mean of the outermost ring of pixels of the training images, 0 to
            255: below 128 their things are bright on dark, and so is what is drawn.
        title: of the page, any text.
    """
    network = {
        "title": title,
        "imageShape": image_shape,
        "classNames": list(class_names),
        "background": background,
        "layers": [layer._asdict() for layer in layers],
        "weights": {
            name: described(weights[name])
            for layer in layers
            if layer.weights
            for name in (f"{layer.weights}.kernel", f"{layer.weights}.bias")
        },
    }
    text = json.dumps(network, allow_nan=False).translate(ESCAPES)
    return TEMPLATE.read_text("utf-8").replace(PLACEHOLDER, text).encode()


def described(array: np.ndarray) -> dict[str, Any]:
    """An array as JSON: its shape, and little-endian float32 in base64."""
    numbers = base64.b64encode(array.astype("<f4").tobytes()).decode("ascii")
    return {"shape": array.shape, "float32": numbers}
