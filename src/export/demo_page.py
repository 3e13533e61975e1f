"""An HTML page that runs the network in a browser, offline and without a library.

The template `demo.html` gets two texts: `run_graph.js`, which runs a graph of ONNX
operators, and the network as JSON.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src.data.examples import Examples
from src.export.shipped.numpy_predictor import run_graph
from src.models.checkpoint import TrainedModel

DEMO_TEMPLATE = Path(__file__).with_name("demo.html")
PLAYER = Path(__file__).with_name("run_graph.js")
# Valid JSON and valid JavaScript that occur once in the template.
NETWORK_PLACEHOLDER = '"THE NETWORK AS JSON"'
PLAYER_PLACEHOLDER = '"THE FUNCTIONS OF run_graph.js";'
# Prevents a name from closing the script element around the JSON or opening a comment.
ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}

MAX_BYTES = 32_000_000  # of the weights in a page: more opens slowly on a phone
TOLERANCE = 0.001  # of probabilities; the page shows tenths of a percent
PROOF_IMAGES = 500  # test images at most that a page's weights are tested on
SMALL = 1024  # numbers: arrays of fewer, such as biases, are stored as float32

Arrays = Mapping[str, np.ndarray]


class DemoPage(NamedTuple):
    """A page, or the reason why there is none."""

    content: bytes | None
    note: str  # one line for the user


def demo_page(
    trained: TrainedModel,
    manifest: Mapping[str, Any],
    constants: Arrays,
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
        return DemoPage(None, f"No demo.html: {note}")
    architecture = trained.record.architecture
    page = build_demo(
        manifest["graph"],
        stored,
        architecture.image_shape,
        trained.record.class_names,
        manifest["input"]["background"],
        f"{architecture.model} on {manifest['model'].get('dataset', 'images')}",
        manifest["input"].get("pictures"),
    )
    return DemoPage(page, f"demo.html: {note}")


def choose_weights(
    graph: Mapping[str, Any],
    constants: Arrays,
    images: np.ndarray,
    expected: np.ndarray,
) -> tuple[Arrays | None, str]:
    """The smallest form of the weights that gives the network's probabilities.

    Float16 halves a page. It is used if no probability changes by more than
    `TOLERANCE`, so a prediction can only change if the two most likely classes are
    within twice that of each other.

    Args:
        graph: as in manifest.json.
        constants: of the graph, float32, by name.
        images: that the weights are tested on, uint8 `[n, height, width, channels]`.
        expected: the network's probabilities, `[n, classes]`.

    Returns:
        The weights, of float16 or float32; None if none pass. And a line that says
        which, or why none.
    """
    faults = []
    for bits, stored in ((16, round_to_half(constants)), (32, constants)):
        if (size := encoded_bytes(stored)) > MAX_BYTES:
            limit = f"at most {MAX_BYTES // 1_000_000}"
            faults.append(f"{bits}-bit weights need {size / 1e6:.0f} MB ({limit})")
            continue
        found = run_graph(graph, as_float32(stored), images)
        difference = float(np.abs(found - expected).max())
        if difference <= TOLERANCE:
            return stored, f"{bits}-bit weights, max difference {difference:.1e}"
        change = f"change probabilities by {difference:.2g} (at most {TOLERANCE})"
        faults.append(f"{bits}-bit weights {change}")
    return None, "; ".join(faults)


def round_to_half(constants: Arrays) -> Arrays:
    """The constants; arrays of `SMALL` numbers or more as float16."""
    with np.errstate(over="ignore"):  # infinite: the test of the weights fails
        return {
            name: array.astype(np.float16) if array.size >= SMALL else array
            for name, array in constants.items()
        }


def as_float32(constants: Arrays) -> Arrays:
    """The constants as the page computes with them."""
    return {name: array.astype(np.float32) for name, array in constants.items()}


def encoded_bytes(constants: Arrays) -> int:
    """The size of the constants in base64."""
    return sum(-(-array.nbytes // 3) * 4 for array in constants.values())


def build_demo(
    graph: Mapping[str, Any],
    constants: Arrays,
    image_shape: tuple[int, int, int],
    class_names: Sequence[str],
    background: float,
    title: str,
    pictures: Mapping[str, Any] | None = None,
) -> bytes:
    """The page as UTF-8; the same arguments give the same bytes.

    Args:
        graph: the network, as in manifest.json.
        constants: of the graph, float16 or float32, by name; others are ignored.
        image_shape: height, width and channels (1, grey, or 3, RGB) of the input.
        class_names: in the order of the outputs; any text.
        background: mean of the outermost pixels of the training images, in [0, 255].
            Below 128, training images are bright on dark, and so are drawings.
        title: of the page; any text.
        pictures: how prepare fitted picture files, as in manifest.json; None: the page
            adapts pictures to the training images.
    """
    used = {name for node in graph["nodes"] for name in node["inputs"]}
    network = {
        "title": title,
        "imageShape": image_shape,
        "classNames": list(class_names),
        "background": background,
        "pictures": dict(pictures) if pictures else None,
        "graph": graph,
        "constants": {
            name: encode_array(constants[name])
            for name in sorted(used & set(constants))
        },
    }
    text = json.dumps(network, allow_nan=False).translate(ESCAPES)
    page = DEMO_TEMPLATE.read_text("utf-8")
    page = page.replace(PLAYER_PLACEHOLDER, PLAYER.read_text("utf-8"))
    return page.replace(NETWORK_PLACEHOLDER, text).encode()


def encode_array(array: np.ndarray) -> dict[str, Any]:
    """An array as JSON: its shape, and its little-endian numbers in base64."""
    numbers = array.astype(array.dtype.newbyteorder("<")).tobytes()
    text = base64.b64encode(numbers).decode("ascii")
    return {"shape": array.shape, str(array.dtype): text}
