"""TensorFlow's SavedModel, any batch size, with `serving_default` from `images`."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from src.export.tf_function import tensorflow_function
from src.models.checkpoint import TrainedModel

FILE = "saved_model"
RUNTIME: str | None = "tensorflow"
PACKAGES: tuple[str, ...] = ("tensorflow",)
EXACT = True
RANDOM = "fingerprint.pb"  # another each time, and missed by nobody


def convert(trained: TrainedModel, calibration: np.ndarray) -> dict[str, bytes]:
    """The folder's files by name."""
    import tensorflow as tf

    function = tensorflow_function(trained, batch=None, of_bytes=True)
    with TemporaryDirectory() as folder:
        signature = function.get_concrete_function()
        tf.saved_model.save(tf.Module(), folder, signatures=signature)
        return {
            f"{FILE}/{path.relative_to(folder)}": path.read_bytes()
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file() and path.name != RANDOM
        }
