"""TensorFlow's converters, in a process that imports nothing else: no JAX, no Keras.

`import tensorflow` takes seconds, in which the other process works. This file runs as a
program. Standard input brings messages with `convert`'s arguments: the module and the
calibration images are parts. Standard output gets a message for each, with the files as
parts, or the text of an error.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np

FINGERPRINT = "fingerprint.pb"  # optional, and different after each conversion


def send(stream: IO[bytes], header: dict[str, Any], parts: list[bytes]) -> None:
    """Writes a message: a line of JSON, then its parts."""
    header = header | {"sizes": list(map(len, parts))}
    stream.write(json.dumps(header).encode() + b"\n")
    stream.writelines(parts)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """The next message.

    Raises:
        EOFError: the stream has ended.
    """
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    header = json.loads(line)
    return header, [stream.read(size) for size in header.pop("sizes")]


def convert(
    module: bytes,
    calibration: np.ndarray | None,
    *,
    file: str,
    version: int,
    platforms: tuple[str, ...],
    shape: tuple[int | None, ...],
    classes: int,
) -> dict[str, bytes]:
    """The files of a format.

    Args:
        module: the network as serialized StableHLO, from `images` to probabilities.
        calibration: uint8 `[n, height, width, channels]`, for a network of 8-bit
            integers, whose module takes float32; None: the module takes uint8.
        file: its file or folder.
        version: of the module's calling convention.
        platforms: that the module is for, as in `jax.export`.
        shape: of the images; None: any batch size.
        classes: their number.
    """
    import tensorflow as tf
    from tensorflow.compiler.tf2xla.python import xla  # as jax2tf does

    def classify(images: Any) -> dict[str, Any]:  # noqa: ANN401 - a tensor
        (probabilities,) = xla.call_module(
            [images],
            version=version,
            module=module,
            Tout=[tf.float32],
            Sout=[(shape[0], classes)],
            # All of them, not only the one that JAX runs on here.
            platforms=[name.upper() for name in platforms],
        )
        return {"probabilities": probabilities}

    kind = tf.uint8 if calibration is None else tf.float32
    images = tf.TensorSpec(shape, kind, name="images")
    function = tf.function(classify, input_signature=[images], autograph=False)
    if not file.endswith(".tflite"):
        return saved_model(file, function.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], function
    )
    if calibration is not None:
        quantize(converter, calibration)
    return {file: converter.convert()}


def saved_model(folder: str, signature: Any) -> dict[str, bytes]:  # noqa: ANN401
    """The files of the SavedModel folder, except its fingerprint."""
    import tensorflow as tf

    with TemporaryDirectory() as temporary:
        tf.saved_model.save(tf.Module(), temporary, signatures=signature)
        return {
            f"{folder}/{path.relative_to(temporary)}": path.read_bytes()
            for path in sorted(Path(temporary).rglob("*"))
            if path.is_file() and path.name != FINGERPRINT
        }


def quantize(converter: Any, calibration: np.ndarray) -> None:  # noqa: ANN401
    """Makes a converter write 8-bit integers, from uint8 to 256ths as uint8."""
    import tensorflow as tf

    images = calibration.astype(np.float32)
    # Calibration must see 0 and 255: then the input scale is 1 and the zero point 0.
    images[0].flat[0], images[0].flat[-1] = 0, 255

    def representative() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [image[None]]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8


def main() -> None:
    """Answers requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the converters print
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow then does not import Keras 3, and TensorFlow Lite does without JAX.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    sys.modules["jax"] = None  # type: ignore[assignment]
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # TensorFlow would reserve their memory
    while True:
        try:
            request, (module, pixels) = receive(sys.stdin.buffer)
        except EOFError:
            return
        calibration = np.frombuffer(pixels, np.uint8).reshape(-1, *request["shape"][1:])
        try:
            files = convert(module, calibration if pixels else None, **request)
            send(answers, {"names": list(files)}, list(files.values()))
        except Exception as error:  # noqa: BLE001 - each converter has its own
            send(answers, {"error": f"{type(error).__name__}: {error}"}, [])


if __name__ == "__main__":
    main()
