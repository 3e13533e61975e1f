"""An HTML page that runs the network in a browser, offline and without a library.

The template `demo.html` gets two texts: `run_graph.js`, which runs a graph of ONNX
operators, and the network as JSON.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src.data.examples import Examples
from src.evaluation.decision import MOST_LIKELY, Decision
from src.export.demo_weights import Encoded, choose_weights
from src.models.checkpoint import TrainedModel

DEMO_TEMPLATE = Path(__file__).with_name("demo.html")
PLAYER = Path(__file__).with_name("run_graph.js")
# Valid JSON and valid JavaScript that occur once in the template.
NETWORK_PLACEHOLDER = '"THE NETWORK AS JSON"'
PLAYER_PLACEHOLDER = '"THE FUNCTIONS OF run_graph.js";'
# Prevents a name from closing the script element around the JSON or opening a comment.
ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}

PROOF_IMAGES = 200  # test images at most: NumPy needs 0.05 s for one of 224 pixels


class DemoPage(NamedTuple):
    """A page, or the reason why there is none."""

    content: bytes | None
    note: str  # one line: which weights it has, or why there is no page


def demo_page(
    trained: TrainedModel,
    manifest: Mapping[str, Any],
    constants: Mapping[str, np.ndarray],
    test: Examples,
    expected: np.ndarray,
) -> DemoPage:
    """The page for a network that the export's graph describes.

    Args:
        trained: the network.
        manifest: the content of manifest.json, with `graph`.
        constants: of the graph, float32, by name.
        test: the whole test split.
        expected: the network's probabilities on it, `[examples, classes]`.
    """
    count = min(len(test.images), PROOF_IMAGES)
    rows = np.linspace(0, len(test.images) - 1, count).astype(int)
    stored, note = choose_weights(
        manifest["graph"], constants, test.images[rows], expected[rows]
    )
    if stored is None:
        return DemoPage(None, note)
    architecture = trained.record.architecture
    page = build_demo(
        manifest["graph"],
        stored,
        architecture.image_shape,
        trained.record.class_names,
        manifest["input"]["background"],
        f"{architecture.model} on {manifest['model'].get('dataset', 'images')}",
        manifest["input"].get("pictures"),
        Decision.of(manifest),
    )
    return DemoPage(page, note)


def build_demo(
    graph: Mapping[str, Any],
    constants: Encoded,
    image_shape: tuple[int, int, int],
    class_names: Sequence[str],
    background: float,
    title: str,
    pictures: Mapping[str, Any] | None = None,
    decision: Decision = MOST_LIKELY,
) -> bytes:
    """The page as UTF-8; the same arguments give the same bytes.

    Args:
        graph: the network, as in manifest.json.
        constants: of the graph, by name; others are ignored.
        image_shape: height, width and channels (1, grey, or 3, RGB) of the input.
        class_names: in the order of the outputs; any text.
        background: mean of the outermost pixels of the training images, in [0, 255].
            Below 128, training images are bright on dark, and so are drawings.
        title: of the page; any text.
        pictures: how prepare fitted picture files, as in manifest.json; None: the page
            adapts pictures to the training images.
        decision: how probabilities become answers.
    """
    used = {name for node in graph["nodes"] for name in node["inputs"]}
    network = {
        "title": title,
        "imageShape": image_shape,
        "classNames": list(class_names),
        "background": background,
        "pictures": dict(pictures) if pictures else None,
        "threshold": decision.threshold,
        "rejectBelow": decision.reject_below,
        "graph": graph,
        "constants": {name: constants[name] for name in constants if name in used},
    }
    text = json.dumps(network, allow_nan=False).translate(ESCAPES)
    page = DEMO_TEMPLATE.read_text("utf-8")
    page = page.replace(PLAYER_PLACEHOLDER, PLAYER.read_text("utf-8"))
    return page.replace(NETWORK_PLACEHOLDER, text).encode()
