"""TensorFlow SavedModel with any batch size; `serving_default` takes `images`."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from src.export.network import Network
from src.export.tf_function import tensorflow_function

FILE = "saved_model"
RUNTIME: str | None = "tensorflow"
PACKAGES: tuple[str, ...] = ("tensorflow",)
EXACT = True
FINGERPRINT = "fingerprint.pb"  # optional, and different after each conversion


def convert(network: Network, calibration: np.ndarray) -> dict[str, bytes]:
    """The files of the SavedModel folder, except its fingerprint."""
    import tensorflow as tf

    function = tensorflow_function(network, batch=None, of_bytes=True)
    with TemporaryDirectory() as folder:
        signature = function.get_concrete_function()
        tf.saved_model.save(tf.Module(), folder, signatures=signature)
        return {
            f"{FILE}/{path.relative_to(folder)}": path.read_bytes()
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file() and path.name != FINGERPRINT
        }
