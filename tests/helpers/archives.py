"""The archives of Fashion-MNIST, and prepare without a network."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.imports import ROOT
from tests.helpers.running import run_stage

MANUAL = Path(
    os.environ.get("FOURBEAT_MANUAL_DIR", ROOT.parent / "shared/data/fashion_mnist")
)


NO_NETWORK = {  # a proxy that nobody listens at: every connection is refused
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "no_proxy": "",
}


has_archives = pytest.mark.skipif(
    not (MANUAL / "train-images-idx3-ubyte.gz").exists(),
    reason="needs the four Fashion-MNIST archives in FOURBEAT_MANUAL_DIR",
)


def idx(name, header):
    """An IDX archive, read without TensorFlow."""
    with gzip.open(MANUAL / name) as file:
        return np.frombuffer(file.read(), np.uint8)[header:]


def prepare_offline(folder, manual):
    """Runs prepare with a fresh TFDS folder and no network but these archives."""
    return run_stage(
        "prepare",
        folder,
        TFDS_DATA_DIR=str(folder / "tfds"),
        FOURBEAT_MANUAL_DIR=str(manual),
        **NO_NETWORK,
    )
