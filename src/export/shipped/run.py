"""Runs an exported network and measures its latency on this machine.

    python run.py model.onnx photo.jpg folder   # one line per picture
    python run.py model.onnx IMAGES             # one line per image
    python run.py model.onnx IMAGES --latency   # milliseconds and memory

The first argument is any exported file of this folder. IMAGES is a .npy file of uint8
`[n, height, width, channels]`, or an .npz file with such `images`. Requirements: NumPy,
the runtime of the format, and manifest.json in the folder of the exported file; for
pictures also Pillow, and pictures.py in the folder of run.py.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import numpy as np

Classify = Callable[[np.ndarray], np.ndarray]

BATCH_SIZE = 64  # images per call; limits memory, does not change results
ARRAYS = (".npy", ".npz")  # the other files are pictures
MAX_LINES = 10  # of pictures that cannot be read
MAX_CALLS, MAX_SECONDS = 200, 2.0  # of a latency measurement, whichever ends first


class UnusableError(ValueError):
    """An input of the command cannot be used; the message says why."""


class Inputs(NamedTuple):
    """What the command classifies."""

    images: np.ndarray  # uint8 [n, height, width, channels]
    names: Sequence[str] = ()  # of pictures, in order; an array has none
    wrong: Sequence[str] = ()  # a line for each picture that cannot be read


def load(file: str | Path) -> Classify:
    """Loads an exported network of any format.

    Returns:
        Uint8 `[n, height, width, channels]` to float32 probabilities `[n, classes]`.

    Raises:
        UnusableError: the name of the file matches no format.
        ModuleNotFoundError: the runtime of the format is not installed.
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
    return lambda images: serve(images=tensorflow.constant(images))[
        "probabilities"
    ].numpy()


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
    classify: Classify = load_module(path).load_predictor(path.parent)
    return classify


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


def latency(classify: Classify, images: np.ndarray) -> dict[str, float]:
    """Milliseconds per call with all of `images`: median and 99th percentile."""
    classify(images)  # warm-up: compilation and caches
    calls: list[float] = []
    began = time.perf_counter()
    while len(calls) < MAX_CALLS and (
        not calls or time.perf_counter() - began < MAX_SECONDS
    ):
        start = time.perf_counter()
        classify(images)
        calls.append(1000 * (time.perf_counter() - start))
    return {
        "median_ms": float(np.median(calls)),
        "p99_ms": float(np.quantile(calls, 0.99)),
    }


def peak_memory() -> float:
    """The peak resident memory of this process in MiB."""
    try:  # not `getrusage`: on Linux it includes the parent process before exec
        lines = Path("/proc/self/status").read_text().splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
        return int(peak) / 1024
    except (OSError, ValueError):
        import resource  # not available on Windows

        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure_latency(classify: Classify, images: np.ndarray) -> dict[str, object]:
    """Latency of one image and of a full batch, then the peak memory."""
    rows = np.arange(BATCH_SIZE) % len(images)
    return {
        "batch_1": latency(classify, images[:1]),
        f"batch_{BATCH_SIZE}": latency(classify, images[rows]),
        "peak_memory_mb": peak_memory(),
    }


def load_images(path: Path, expected: list[int]) -> np.ndarray:
    """Loads a .npy file, or `images` of an .npz file.

    Raises:
        UnusableError: the file has no images, or images of another shape or type.
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
    usable = images.dtype == np.uint8 and images.ndim == 4 and len(images) > 0
    if not usable or list(images.shape[1:]) != expected:
        raise UnusableError(
            f"{path}: expected uint8 [n, {', '.join(map(str, expected))}], n >= 1, "
            f"found {images.dtype} {list(images.shape)}"
        )
    return images


def load_inputs(files: list[Path], expected: dict[str, Any]) -> Inputs:
    """Loads one file of images, or pictures and folders of them.

    Args:
        files: as the command got them.
        expected: `input` of the manifest.

    Raises:
        UnusableError: there are no images, or not for this network.
    """
    if not any(path.suffix in ARRAYS for path in files):
        return load_pictures(files, expected)
    if len(files) > 1:
        raise UnusableError(f"expected one .npy or .npz, found {len(files)} files")
    return Inputs(load_images(files[0], expected["shape"][1:]))


def load_pictures(files: list[Path], expected: dict[str, Any]) -> Inputs:
    """Reads pictures and folders of them; arguments and errors as `load_inputs`."""
    path = Path(__file__).with_name("pictures.py")
    if not path.is_file():
        raise UnusableError(f"{path}: expected this file, found none: copy it here")
    module = load_module(path)
    images, names, wrong = [], [], []
    for file in files:
        found = module.list_pictures(file)[0] if file.is_dir() else [file]
        if not found:
            wrong.append(f"{file}: expected {module.KINDS} files, found none")
        for each in found:
            try:
                images.append(read_picture(module, each, expected))
                names.append(str(each))
            except module.PictureError as error:
                kinds = f".npy, .npz, {module.KINDS} file"
                wrong.append(f"{each}: expected a {kinds}, found {error}")
    if not images:
        refuse(wrong)
    return Inputs(np.stack(images), names, wrong)


def read_picture(
    module: ModuleType, path: Path, expected: dict[str, Any]
) -> np.ndarray:
    """Reads a picture as uint8 `[height, width, channels]`.

    Raises:
        PictureError: it cannot be read, or no policy says how to make it fit.
    """
    if "pictures" in expected:
        policy = module.PicturePolicy.of(expected["pictures"])
        pixels: np.ndarray = module.read_pixels(path, policy)
        return pixels
    with module.open_picture(path) as picture:
        opaque = module.without_transparency(module.upright(picture), "white")
        pixels = module.to_pixels(opaque, 1 if opaque.mode == "L" else 3)
    found, wanted = list(pixels.shape), expected["shape"][1:]
    if found != wanted:
        raise module.PictureError(
            f"height, width, channels {found} instead of {wanted}: convert it to a "
            ".npy file, or use python -m stages.predict"
        )
    return pixels


def refuse(wrong: Sequence[str]) -> None:
    """Prints the first lines; the last is the message of the error.

    Raises:
        UnusableError: there is a line.
    """
    lines = list(wrong[:MAX_LINES])
    if len(wrong) > MAX_LINES:
        lines.append(f"{len(wrong) - MAX_LINES} more files cannot be read")
    for line in lines[:-1]:
        warn(line)
    if lines:
        raise UnusableError(lines[-1])


def execute(options: argparse.Namespace) -> None:
    """Runs the command with its parsed options."""
    path = options.file.parent / "manifest.json"
    if not options.file.exists():
        raise UnusableError(f"{options.file}: expected a file, found none")
    if not path.is_file():
        raise UnusableError(
            f"{path}: expected the manifest of the network, found none: copy it here"
        )
    manifest = json.loads(path.read_text("utf-8"))
    inputs = load_inputs(options.images, manifest["input"])
    classify = load(options.file)
    if options.latency:
        print(json.dumps(measure_latency(classify, inputs.images)))
    if options.output or not options.latency:
        answer(classify, inputs, manifest["class_names"], options.output)
    refuse(inputs.wrong)


def answer(
    classify: Classify, inputs: Inputs, class_names: list[str], output: Path | None
) -> None:
    """Prints the best class of each image, or writes all probabilities to `output`."""
    rows = classify_all(classify, inputs.images)
    if output and not inputs.names:
        np.savez(output, probabilities=rows)
    elif output:
        np.savez(output, probabilities=rows, pictures=np.array(inputs.names))
    else:
        names = [name if name.isprintable() else repr(name) for name in inputs.names]
        begins = [f"{name}\t" for name in names] or [""] * len(rows)
        for begin, row in zip(begins, rows, strict=True):
            print(f"{begin}{class_names[row.argmax()]}\t{row.max():.4f}")


def main() -> None:
    """Runs the command line of the module docstring.

    Exit codes: 2 a package is missing, 3 a file is wrong, 5 a file cannot be written.
    """
    parser = argparse.ArgumentParser(description="Runs an exported network.")
    parser.add_argument("file", type=Path, help="exported file, such as model.onnx")
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        help="pictures and folders, or a .npy or .npz file of uint8 images",
    )
    parser.add_argument("--output", type=Path, help="an .npz for all probabilities")
    parser.add_argument("--latency", action="store_true", help="print latency as JSON")
    options = parser.parse_args()
    try:
        execute(options)
    except ImportError as error:
        package = "pillow" if error.name == "PIL" else error.name or error
        end(2, f"{options.file}: needs {package}, which is not installed")
    except BrokenPipeError:  # the reader of stdout stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except UnusableError as error:
        end(3, str(error))
    except OSError as error:
        end(5, str(error))
    except Exception as error:  # noqa: BLE001 - each runtime has its own exceptions
        end(3, f"{options.file}: {type(error).__name__}: {error}")


def end(code: int, message: str) -> NoReturn:
    """Exits with one line on stderr."""
    warn(message)
    sys.exit(code)


def warn(message: str) -> None:
    """Prints one line on stderr."""
    print(f"run.py: {' '.join(message.split())[:500]}", file=sys.stderr)


if __name__ == "__main__":
    main()
