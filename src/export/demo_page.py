"""An HTML page that runs the network in a browser, offline and without a library.

The template `demo.html` computes the list of layers in JavaScript. The network itself
is one JSON text that replaces a placeholder in the template.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.models.checkpoint import TrainedModel
from src.models.layer_list import Layer

DEMO_TEMPLATE = Path(__file__).with_name("demo.html")
PLACEHOLDER = '"THE NETWORK AS JSON"'  # valid JSON that occurs once in the template
# Prevents a name from closing the script element around the JSON or opening a comment.
ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}


def demo_page(trained: TrainedModel, manifest: Mapping[str, Any]) -> bytes:
    """The page for a network; `manifest` is the content of manifest.json."""
    architecture = trained.record.architecture
    return build_demo(
        trained.model.layers(),
        trained.weights,
        architecture.image_shape,
        trained.record.class_names,
        manifest["input"]["background"],
        f"{architecture.model} on {manifest['model'].get('dataset', 'images')}",
        manifest["input"].get("pictures"),
    )


def build_demo(
    layers: Sequence[Layer],
    weights: Mapping[str, np.ndarray],
    image_shape: tuple[int, int, int],
    class_names: Sequence[str],
    background: float,
    title: str,
    pictures: Mapping[str, Any] | None = None,
) -> bytes:
    """The page as UTF-8; the same arguments give the same bytes.

    Args:
        layers: the network.
        weights: by name; weights of other layers are ignored.
        image_shape: height, width and channels (1, grey, or 3, RGB) of the input.
        class_names: in the order of the outputs; any text.
        background: mean of the outermost pixels of the training images, in [0, 255].
            Below 128, training images are bright on dark, and so are drawings.
        title: of the page; any text.
        pictures: how prepare fitted picture files, as in manifest.json; None: the page
            adapts pictures to the training images.
    """
    network = {
        "title": title,
        "imageShape": image_shape,
        "classNames": list(class_names),
        "background": background,
        "pictures": dict(pictures) if pictures else None,
        "layers": [layer._asdict() for layer in layers],
        "weights": {
            name: encode_array(weights[name])
            for layer in layers
            if layer.weights
            for name in (f"{layer.weights}.kernel", f"{layer.weights}.bias")
        },
    }
    text = json.dumps(network, allow_nan=False).translate(ESCAPES)
    return DEMO_TEMPLATE.read_text("utf-8").replace(PLACEHOLDER, text).encode()


def encode_array(array: np.ndarray) -> dict[str, Any]:
    """An array as JSON: its shape, and its little-endian float32 values in base64."""
    numbers = base64.b64encode(array.astype("<f4").tobytes()).decode("ascii")
    return {"shape": array.shape, "float32": numbers}
