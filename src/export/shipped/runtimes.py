"""Loads exported networks of any format, each with its own runtime."""

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

Classify = Callable[[np.ndarray], np.ndarray]

BATCH_SIZE = 64  # images per call; limits memory, does not change results


class UnusableError(ValueError):
    """An input of the command cannot be used; the message says why."""


def load(file: str | Path) -> Classify:
    """Loads an exported network of any format.

    Args:
        file: in the folder of its manifest.json.

    Returns:
        Uint8 `[n, height, width, channels]` to float32 probabilities `[n, classes]`. It
        raises UnusableError, a ValueError, for other images.

    Raises:
        UnusableError: there is no such file, or its name matches no format.
        ModuleNotFoundError: the runtime of the format is not installed.
    """
    path = Path(file)
    if not path.exists():
        raise UnusableError(f"{path}: expected an exported file, found none")
    classify, manifest = load_unchecked(path), path.parent / "manifest.json"
    if not manifest.is_file():
        return classify
    expected = json.loads(manifest.read_text("utf-8"))["input"]["shape"][1:]

    def classify_checked(images: np.ndarray) -> np.ndarray:
        array = np.asarray(images)
        if array.dtype != np.uint8 or list(array.shape[1:]) != expected:
            raise UnusableError(
                f"expected images of uint8 [n, {', '.join(map(str, expected))}], found "
                f"{array.dtype} {list(array.shape)}"
            )
        return classify(array)

    return classify_checked


def load_unchecked(path: Path) -> Classify:
    """Loads a network that does not check its images; otherwise as `load`."""
    match path.suffix:
        case ".stablehlo":
            return load_stablehlo(path)
        case ".onnx":
            return load_onnx(path)
        case ".tflite":
            return load_tflite(path)
        case ".py":
            return load_numpy(path)
        case "" if (path / "saved_model.pb").is_file():
            return load_saved_model(path)
    raise UnusableError(
        f"{path}: expected model.stablehlo, model.onnx, a .tflite, saved_model or "
        "numpy_predictor.py, found none of them"
    )


def load_stablehlo(path: Path) -> Classify:
    """Runs StableHLO with jax."""
    from jax import export

    exported = export.deserialize(bytearray(path.read_bytes()))
    return lambda images: np.asarray(exported.call(images))


def load_onnx(path: Path) -> Classify:
    """Runs ONNX with onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: it warns if there is no GPU
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    return lambda images: session.run(None, {given.name: images})[0]


def load_saved_model(path: Path) -> Classify:
    """Runs a SavedModel with tensorflow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow

    module = tensorflow.saved_model.load(str(path))
    serve = module.signatures["serving_default"]
    constant, answer = tensorflow.constant, "probabilities"
    return lambda images: serve(images=constant(images))[answer].numpy()


def load_tflite(path: Path) -> Classify:
    """Runs TensorFlow Lite with ai-edge-litert, one image per call."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    (answer,) = interpreter.get_output_details()
    scale, zero = answer["quantization"]  # (0.0, 0) if the output is float

    def classify_one(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        output = interpreter.get_tensor(answer["index"])[0].astype(np.float32)
        return (output - zero) * np.float32(scale) if scale else output

    return lambda images: np.stack([classify_one(image) for image in images])


def load_numpy(path: Path) -> Classify:
    """Runs numpy_predictor.py."""
    return load_module(path).load_predictor(path.parent)


def load_module(path: Path) -> ModuleType:
    """Imports a Python file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def classify_all(classify: Classify, images: np.ndarray) -> np.ndarray:
    """The probabilities of all images, computed in batches."""
    starts = range(0, len(images), BATCH_SIZE)
    batches = [images[start : start + BATCH_SIZE] for start in starts]
    return np.concatenate([classify(batch) for batch in batches])
