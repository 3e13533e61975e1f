"""Any image-classification data set of tensorflow-datasets, through its own builder.

TensorFlow is imported here and nowhere else before export, when a data set of its is
asked for. A machine without a network is fed archives in `data/manual`, whose SHA-256
the builder checks.
"""

import hashlib
import logging
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from src.data.examples import Examples, Source
from src.data.lazy_images import ImageWriter
from src.errors import DataError, ParameterError, StorageError, one_line, suggestion

# Read by TensorFlow's C++ side when it is imported: no banner on the user's terminal.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import (
    NonMatchingChecksumError,
)

REACH_SECONDS = 8
BATCH = 1024  # examples per conversion to numpy: speed only
OFFLINE = "or use dataset: digits, folder or npz, which need no network"


def load_builder(name: str, manual: Path) -> Source:
    """Downloads, checks and reads the data set `name`.

    Args:
        name: a builder, or builder/config. `TFDS_DATA_DIR` says where it is kept.
        manual: a folder of archives that are taken instead of downloads.

    Raises:
        ParameterError: tensorflow-datasets has no such data set.
        DataError: its images have several shapes, its labels are no classes, or an
            archive's SHA-256 is wrong.
        StorageError: archives are missing, and their server cannot be reached.
    """
    tf.config.set_visible_devices([], "GPU")  # they are JAX's
    # A warning for every data set that is not there yet frightens for nothing.
    logging.getLogger("absl").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    builder = build(name)
    image, label = check_features(name, builder)
    if not builder.is_prepared():
        download(name, builder, manual)
    if "train" not in builder.info.splits:
        raise DataError(
            f"dataset {name}: expected a split named train, found "
            f"{', '.join(builder.info.splits)}. Choose another data set."
        )
    train = read_split(builder, "train", image, label)
    has_test = "test" in builder.info.splits
    return Source(
        name=name,
        version=str(builder.info.version),
        class_names=list(builder.info.features[label].names),
        train=train,
        validation=None,
        test=read_split(builder, "test", image, label) if has_test else None,
    )


def build(name: str) -> Any:  # noqa: ANN401 - tensorflow-datasets is not typed
    """The builder called `name`.

    Raises:
        ParameterError: there is none; or not the config behind the slash.
    """
    known = tfds.list_builders(with_community_datasets=False)
    if name.split("/")[0] not in known:
        known = ["digits", "folder", "npz", *known]
        raise ParameterError(
            f"params.yaml: dataset: expected digits, folder, npz or a data set of "
            f"tensorflow-datasets, got '{name}'.{suggestion(name, known)}"
        )
    try:
        return tfds.builder(name)
    except ValueError as error:
        raise ParameterError(
            f"params.yaml: dataset: expected a config of {name.split('/')[0]}, "
            f"got '{name}': {one_line(error)}."
        ) from None


def check_features(name: str, builder: Any) -> tuple[str, str]:  # noqa: ANN401
    """The keys of image and label in the builder's examples.

    Raises:
        DataError: not one image of one shape with one label of a class.
    """
    features = builder.info.features
    keys = builder.info.supervised_keys
    if keys and len(keys) == 2:
        image, label = (features[key] for key in keys)
        if (
            isinstance(image, tfds.features.Image)
            and None not in image.shape
            and isinstance(label, tfds.features.ClassLabel)
        ):
            return keys[0], keys[1]
    raise DataError(
        f"dataset {name}: expected images of one shape with a class label, found "
        f"{one_line(ValueError(features))}. Choose another data set, or bring the "
        "images to one shape and use dataset: folder."
    )


def download(name: str, builder: Any, manual: Path) -> None:  # noqa: ANN401
    """Runs the builder's own download and preparation.

    Raises:
        DataError: an archive is not the one that the builder expects.
        StorageError: the network or the disk failed.
    """
    archives = builder.url_infos or {}
    check_archives(name, archives, manual)
    check_reachable(name, archives, manual)
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual)
        )
    except (tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise StorageError(f"dataset {name}: {one_line(error)}. Try again.") from None


def check_archives(name: str, archives: dict[str, Any], manual: Path) -> None:
    """Raises DataError where a hand-fetched archive has another SHA-256.

    The builder checks it too, but says so in many lines.
    """
    for archive in archives.values():
        path = manual / str(archive.filename)
        if not path.is_file():
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != archive.checksum:
            raise DataError(
                f"{path}: expected SHA-256 {archive.checksum} for {name}, found "
                f"{found}. Fetch the archive anew."
            )


def check_reachable(name: str, archives: dict[str, Any], manual: Path) -> None:
    """Asks the server of the first missing archive for a sign of life.

    The builder itself would retry for minutes.

    Raises:
        StorageError: no answer.
    """
    missing = {
        url: archive.filename
        for url, archive in archives.items()
        if not (manual / str(archive.filename)).is_file()
    }
    if not missing:
        return
    first = next(iter(missing))
    # The builder's own address, which it would open too.
    request = urllib.request.Request(first, method="HEAD")  # noqa: S310
    try:
        urllib.request.urlopen(request, timeout=REACH_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError:
        return  # an answer, though not a nice one: the builder knows its server
    except (OSError, ValueError) as error:
        raise StorageError(
            f"dataset {name}: expected a network, {urlsplit(first).hostname} does not "
            f"answer ({one_line(error)}). Put {', '.join(missing.values())} into "
            f"{manual}, {OFFLINE}."
        ) from None


def read_split(builder: Any, split: str, image: str, label: str) -> Examples:  # noqa: ANN401
    """Reads a split in the order of its files, whatever the machine.

    Raises:
        StorageError: the disk is full.
    """
    count = builder.info.splits[split].num_examples
    spool = ImageWriter((count, *builder.info.features[image].shape))
    labels = np.empty(count, np.int32)
    for batch in batches(builder, split):
        labels[spool.count : spool.count + len(batch[label])] = batch[label]
        spool.add(batch[image])
    return Examples(spool.images(), labels[: spool.count])


def batches(builder: Any, split: str) -> Iterator[dict[str, np.ndarray]]:  # noqa: ANN401
    """The split's examples as numpy arrays, `BATCH` at a time."""
    one_file_at_a_time = tfds.ReadConfig(interleave_cycle_length=1)
    dataset = builder.as_dataset(
        split=split, shuffle_files=False, read_config=one_file_at_a_time
    )
    yield from tfds.as_numpy(dataset.batch(BATCH).prefetch(2))
