"""Runs an exported network, and measures it on the machine that it is to run on.

    python run.py model.onnx IMAGES             # a line per image
    python run.py model.onnx IMAGES --latency   # milliseconds and memory here

FILE is any of the formats in this folder; IMAGES a .npy of uint8
`[n, height, width, channels]`, or an .npz with such `images`. Needs numpy, the format's
own runtime and manifest.json beside the file, and nothing of the project that made it.
From Python:

    from run import load
    probabilities = load("model.onnx")(images)
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np

Classify = Callable[[np.ndarray], np.ndarray]

BATCH = 64  # images at a time: memory, not results
CALLS, SECONDS = 200, 2.0  # a latency is the median of so many, or of so long


class UnusableError(ValueError):
    """What the command was given cannot be used; the message says why."""


def load(file: str | Path) -> Classify:
    """The network in a file of any of the formats.

    Returns:
        Uint8 `[n, height, width, channels]` to float32 probabilities `[n, classes]`.

    Raises:
        UnusableError: the file's name is that of no format.
        ModuleNotFoundError: the format's runtime is not installed.
    """
    path = Path(file)
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
    """With jax."""
    from jax import export

    exported = export.deserialize(bytearray(path.read_bytes()))
    return lambda images: np.asarray(exported.call(images))


def load_onnx(path: Path) -> Classify:
    """With onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: it warns of machines without a GPU
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    return lambda images: session.run(None, {given.name: images})[0]


def load_saved_model(path: Path) -> Classify:
    """With tensorflow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow

    module = tensorflow.saved_model.load(str(path))
    serve = module.signatures["serving_default"]
    return lambda images: serve(images=tensorflow.constant(images))[
        "probabilities"
    ].numpy()


def load_tflite(path: Path) -> Classify:
    """With ai-edge-litert, an image at a time; full-integer answers become shares."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    (answer,) = interpreter.get_output_details()
    scale, zero = answer["quantization"]  # 0.0, 0 where the file computes in floats

    def classify_one(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        shares = interpreter.get_tensor(answer["index"])[0].astype(np.float32)
        return (shares - zero) * np.float32(scale) if scale else shares

    return lambda images: np.stack([classify_one(image) for image in images])


def load_numpy(path: Path) -> Classify:
    """With numpy alone."""
    spec = importlib.util.spec_from_file_location("numpy_predictor", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    classify: Classify = module.load(path.parent)
    return classify


def classify_all(classify: Classify, images: np.ndarray) -> np.ndarray:
    """Every image's probabilities, a batch at a time."""
    parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    return np.concatenate([classify(part) for part in parts])


def latency(classify: Classify, images: np.ndarray) -> dict[str, float]:
    """Milliseconds per call with all of `images`: median and 99th percentile."""
    classify(images)  # compiled, and in the caches
    calls: list[float] = []
    began = time.perf_counter()
    while len(calls) < CALLS and (not calls or time.perf_counter() - began < SECONDS):
        start = time.perf_counter()
        classify(images)
        calls.append(1000 * (time.perf_counter() - start))
    return {
        "median_ms": float(np.median(calls)),
        "p99_ms": float(np.quantile(calls, 0.99)),
    }


def peak_memory() -> float:
    """The most that this process has had in memory so far, in megabytes."""
    try:  # not `getrusage`: it counts what the process that started this one had
        lines = Path("/proc/self/status").read_text().splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
        return int(peak) / 1024
    except (OSError, ValueError):
        import resource  # which Windows lacks

        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(classify: Classify, images: np.ndarray) -> dict[str, object]:
    """Latencies of one image and of a batch, repeated to fill it; then the memory."""
    rows = np.arange(BATCH) % len(images)
    return {
        "batch_1": latency(classify, images[:1]),
        f"batch_{BATCH}": latency(classify, images[rows]),
        "peak_memory_mb": peak_memory(),
    }


def read_images(path: Path, expected: list[int]) -> np.ndarray:
    """The images in a .npy, or the `images` in an .npz.

    Raises:
        UnusableError: they are no images for this network, or there is none.
    """
    if not path.is_file():
        raise UnusableError(f"{path}: expected a file, found none")
    try:
        content = np.load(path, allow_pickle=False)
        images = content if isinstance(content, np.ndarray) else content["images"]
    except (ValueError, KeyError, OSError):
        raise UnusableError(
            f"{path}: expected a .npy, or an .npz with images"
        ) from None
    found = images.dtype == np.uint8 and images.ndim == 4 and len(images) > 0
    if not found or list(images.shape[1:]) != expected:
        raise UnusableError(
            f"{path}: expected uint8 [n, {', '.join(map(str, expected))}], n above 0, "
            f"found {images.dtype} {list(images.shape)}"
        )
    return images


def execute(options: argparse.Namespace) -> None:
    """What the command's options ask for."""
    manifest = options.file.parent / "manifest.json"
    if not options.file.exists():
        raise UnusableError(f"{options.file}: expected a file, found none")
    if not manifest.is_file():
        raise UnusableError(
            f"{manifest}: expected it beside the network, found none: copy it"
        )
    said = json.loads(manifest.read_text("utf-8"))
    images = read_images(options.images, said["input"]["shape"][1:])
    classify = load(options.file)
    if options.latency:
        print(json.dumps(measure(classify, images)))
    if options.latency and not options.output:
        return
    rows = classify_all(classify, images)
    if options.output:
        np.savez(options.output, probabilities=rows)
    else:
        for row in rows:
            print(f"{said['class_names'][row.argmax()]}\t{row.max():.4f}")


def main() -> None:
    """The command; see the top of this file.

    Exits with 2 where a package is missing, 3 where a file is wrong, 5 where one cannot
    be written.
    """
    parser = argparse.ArgumentParser(description="Runs an exported network.")
    parser.add_argument("file", type=Path, help="model.onnx or another of this folder")
    parser.add_argument(
        "images",
        type=Path,
        help="a .npy of uint8 [n, height, width, channels], or .npz",
    )
    parser.add_argument("--output", type=Path, help="an .npz for all probabilities")
    parser.add_argument("--latency", action="store_true", help="measure, as JSON")
    options = parser.parse_args()
    try:
        execute(options)
    except ImportError as error:
        end(2, f"{options.file}: needs {error.name or error}, which is not installed")
    except BrokenPipeError:  # whoever read this has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except UnusableError as error:
        end(3, str(error))
    except OSError as error:
        end(5, str(error))
    except Exception as error:  # noqa: BLE001 - each runtime raises errors of its own
        end(3, f"{options.file}: {type(error).__name__}: {error}")


def end(code: int, message: str) -> NoReturn:
    """Exits with one line on stderr."""
    print(f"run.py: {' '.join(message.split())[:500]}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
