"""The four kinds of sources, by the value of `dataset`."""

import os
from pathlib import Path

from src import paths
from src.config.params import Params
from src.data.examples import Source


def load_source(params: Params) -> Source:
    """Reads the data set that `dataset` names.

    `FOURBEAT_MANUAL_DIR` moves the folder of hand-fetched archives, for machines that
    keep them in one place, and for DVC's temporary copies of the repository.
    """
    folder = Path(params.data_path)
    if params.dataset == "digits":
        from src.sources.digits import load_digits

        return load_digits(folder)
    if params.dataset == "folder":
        from src.sources.folder import load_folder

        return load_folder(folder)
    if params.dataset == "npz":
        from src.sources.npz import load_arrays

        return load_arrays(folder)
    from src.sources.tfds import load_builder  # four seconds of TensorFlow

    manual = Path(os.environ.get("FOURBEAT_MANUAL_DIR", paths.MANUAL))
    return load_builder(params.dataset, manual)
