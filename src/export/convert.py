"""Converts a network to all formats, in this process and in TensorFlow's."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax
import numpy as np

from src import paths
from src.config.names import FormatName
from src.data import pictures as picture_module
from src.data.lazy_images import Images
from src.data.prepared import PictureRecord
from src.errors import FourbeatError
from src.evaluation.decision import MOST_LIKELY, Decision
from src.export.faults import (
    OTHER_LAYER,
    advice,
    converter_error,
    left_out,
    without_operator,
)
from src.export.formats import (
    border_brightness,
    calibration_images,
    describe,
    format_module,
)
from src.export.graph import UnsupportedError
from src.export.manifest import Export, Files, build_manifest, leave_out
from src.export.network import Network, plain_network
from src.export.program import make_program
from src.export.quiet import quiet
from src.export.rounding import logit_error
from src.export.tensorflow_converter import Program, TensorflowConverter
from src.models.checkpoint import TrainedModel
from src.runtime.progress import with_progress
from src.signals import raise_if_stopped
from src.storage.json_files import record_bytes
from src.storage.npz import pack_arrays
from src.storage.reading import digest

MEASURED_IMAGES = 32  # for the sizes of the network's numbers

Ready = Callable[[FormatName, Files], None]


def convert_all(
    names: Sequence[FormatName],
    trained: TrainedModel,
    train_images: Images,
    tensorflow: TensorflowConverter,
    *,
    ready: Ready = lambda name, files: None,
    pictures: PictureRecord | None = None,
    decision: Decision = MOST_LIKELY,
) -> Export:
    """Makes the files of each format, the weights, the programs and the manifest.

    A format that the network cannot be converted to is left out, with a reason.

    Args:
        names: of the formats.
        trained: the network.
        train_images: uint8 `[n, height, width, channels]`.
        tensorflow: converts to the formats of TensorFlow.
        ready: gets the name of each format, and all files that running it needs, as
            soon as they exist. For a format of TensorFlow, in another thread.
        pictures: how prepare made the images of picture files; None: of other data.
        decision: how probabilities become answers.

    Raises:
        DataError: no format is left.
    """
    network, calibration = plain_network(trained), calibration_images(train_images)
    files = {
        "weights.npz": bytes(pack_arrays(trained.weights)),
        "run.py": make_program(),
        "pictures.py": Path(picture_module.__file__).read_bytes(),
    }
    background, weights = border_brightness(train_images), digest(files["weights.npz"])
    manifest = build_manifest(trained, background, weights, pictures, decision)

    def run(name: FormatName, made: Files) -> None:
        record = manifest | (graph_record(network) if name == "numpy" else {})
        described = {"run.py": files["run.py"], "manifest.json": record_bytes(record)}
        ready(name, described | made)

    # Otherwise JAX writes source paths of this machine into the files.
    jax.config.update("jax_traceback_in_locations_limit", 0)
    made, reasons = finish(start_all(names, network, calibration, tensorflow, run))
    formats = {name: describe(name, made[name]) for name in made}
    manifest |= {"formats": formats} | graph_record(network)
    for converted in made.values():
        files |= converted
    graph = None if isinstance(network.graph, str) else network.graph
    error = logit_error(network.logits, calibration[:MEASURED_IMAGES])
    export = Export(files, manifest, graph, error)
    return leave_out(export, without_demo(network) | reasons)


def without_demo(network: Network) -> dict[str, str]:
    """The reason why there is no demo page, if there is no graph."""
    if not isinstance(network.graph, str):
        return {}
    found = without_operator(network.graph)
    return {"demo": left_out(paths.EXPORT / "demo.html", found, OTHER_LAYER)}


def graph_record(network: Network) -> dict[str, Any]:
    """The graph's entry in the manifest, if there is a graph."""
    return {} if isinstance(network.graph, str) else {"graph": network.graph.record()}


def start_all(
    names: Sequence[FormatName],
    network: Network,
    calibration: np.ndarray,
    tensorflow: TensorflowConverter,
    run: Ready,
) -> dict[FormatName, Future[Files]]:
    """Converts to the formats of this process, while TensorFlow converts to its own.

    The order is always the same, because TensorFlow numbers functions. Its formats are
    the first, and those of the graph are the last: both take seconds.
    """

    def order(name: FormatName) -> tuple[bool, bool, str]:
        packages = format_module(name).PACKAGES
        return "tensorflow" not in packages, "jax2onnx" in packages, name

    conversions: dict[FormatName, Future[Files]] = {}
    ordered = sorted(names, key=order)
    for name in with_progress(ordered, len(ordered), "converting", "format"):
        raise_if_stopped()
        conversions[name] = start(name, network, calibration, tensorflow, run)
    return conversions


def start(
    name: FormatName,
    network: Network,
    calibration: np.ndarray,
    tensorflow: TensorflowConverter,
    run: Ready,
) -> Future[Files]:
    """Converts to a format of this process, or lets TensorFlow begin."""

    def then(files: Files) -> Files:
        run(name, files)
        return files

    conversion: Future[Files] = Future()
    with quiet():
        try:
            made = format_module(name).convert(network, calibration)
        except Exception as error:  # noqa: BLE001 - each converter has its own
            conversion.set_exception(error)
            return conversion
    if isinstance(made, Program):
        return tensorflow.submit(made, then)
    conversion.set_result(then(made))
    return conversion


def finish(
    conversions: dict[FormatName, Future[Files]],
) -> tuple[dict[FormatName, Files], dict[str, str]]:
    """The files of each format, and a reason for each that could not be made."""
    made: dict[FormatName, Files] = {}
    reasons: dict[str, str] = {}
    started = sorted(conversions)
    for name in with_progress(started, len(started), "finishing", "format"):
        raise_if_stopped()
        try:
            made[name] = conversions[name].result()
            continue
        except FourbeatError:  # the files cannot be written
            raise
        except UnsupportedError as error:
            found = without_operator(str(error))
        except Exception as error:  # noqa: BLE001 - each converter has its own
            found = f"expected a network to convert, found {converter_error(error)}"
        file = paths.EXPORT / format_module(name).FILE
        reasons[name] = left_out(file, found, advice(name, exact=True))
    return made, reasons
