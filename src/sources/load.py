"""The table of sources; `dataset` in `params.yaml` chooses one by name."""

import os
from pathlib import Path

from src import paths
from src.config.params import Params
from src.data.examples import Source


def load_source(params: Params) -> Source:
    """Loads the data set that `dataset` names, from `data_path` or by download.

    Raises:
        ParameterError: no data set has this name.
        DataError: the data set is missing or malformed.
        StorageError: a download failed, or the disk is full.
    """
    folder = Path(params.data_path)
    match params.dataset:  # a source imports its libraries only when it is used
        case "digits":
            from src.sources.digits import load_digits

            return load_digits(folder)
        case "folder":
            from src.sources.folder import load_folder
            from src.sources.read_pictures import PictureOptions

            return load_folder(folder, PictureOptions.of(params))
        case "npz":
            from src.sources.npz import load_npz

            return load_npz(folder)
        case name:
            return load_from_tfds(name)


def load_from_tfds(name: str) -> Source:
    """Imports TensorFlow, which takes four seconds, and loads a data set of TFDS.

    `FOURBEAT_MANUAL_DIR` replaces `data/manual`, the folder of archives fetched by
    hand: for machines that share one, and for DVC's temporary copies of the project.
    """
    # TensorFlow reads these at import. Without them it prints a banner.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    from src.sources.tfds import load_builder

    manual = Path(os.environ.get("FOURBEAT_MANUAL_DIR", paths.MANUAL))
    return load_builder(name, manual)
