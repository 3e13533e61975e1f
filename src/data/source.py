"""The four kinds of sources, by the value of `dataset`."""

import os
from pathlib import Path

from src import paths
from src.config import Params
from src.data.split import Source


def load_source(params: Params) -> Source:
    """Reads the data set that `dataset` names.

    `FOURBEAT_MANUAL_DIR` moves the folder of hand-fetched archives, for machines that
    keep them in one place, and for DVC's temporary copies of the repository.
    """
    folder = Path(params.data_path)
    if params.dataset == "digits":
        from src.data.digits import load_digits

        return load_digits(folder)
    if params.dataset == "folder":
        from src.data.folder import load_folder

        return load_folder(folder)
    if params.dataset == "npz":
        from src.data.arrays import load_arrays

        return load_arrays(folder)
    from src.data.tfds import load_builder  # four seconds of TensorFlow

    manual = Path(os.environ.get("FOURBEAT_MANUAL_DIR", paths.MANUAL))
    return load_builder(params.dataset, manual)
