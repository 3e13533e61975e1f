"""Any image-classification data set of tensorflow-datasets (TFDS), by its builder.

Before export, TensorFlow is imported here alone. A machine without a network reads
archives from `data/manual`; their SHA-256 is checked.
"""

import hashlib
import logging
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import (
    NonMatchingChecksumError,
)

from src.config.names import LocalSource
from src.data.examples import Examples, Source
from src.data.lazy_images import ImageWriter
from src.errors import DataError, ParameterError, StorageError, one_line, suggestion
from src.runtime.progress import with_progress

REACH_SECONDS = 8  # to wait for a server
READ_BATCH = 1024  # examples converted to numpy at a time; affects speed only
LOCAL_SOURCES = ", ".join(get_args(LocalSource))


def load_builder(name: str, manual: Path) -> Source:
    """Downloads, checks and reads the data set `name`.

    Args:
        name: a builder, or builder/config. TFDS stores it in `TFDS_DATA_DIR`.
        manual: a folder with archives to use instead of downloads.

    Raises:
        ParameterError: TFDS has no such data set.
        DataError: the images differ in shape, the labels are not classes, or an
            archive's SHA-256 is wrong.
        StorageError: archives are missing and their server does not answer, or the
            disk is full.
    """
    tf.config.set_visible_devices([], "GPU")  # leaves the GPUs to JAX
    # TFDS warns of every data set that is not downloaded yet.
    logging.getLogger("absl").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    builder = find_builder(name)
    image, label = check_features(name, builder)
    if not builder.is_prepared():
        download(name, builder, manual)
    if "train" not in builder.info.splits:
        raise DataError(
            f"dataset {name}: expected a split named train, found "
            f"{', '.join(builder.info.splits)}. Choose another data set."
        )
    train = read_tfds_split(builder, "train", image, label)
    has_test = "test" in builder.info.splits
    return Source(
        name=name,
        version=str(builder.info.version),
        class_names=list(builder.info.features[label].names),
        train=train,
        validation=None,
        test=read_tfds_split(builder, "test", image, label) if has_test else None,
    )


def find_builder(name: str) -> Any:  # noqa: ANN401 - TFDS has no types
    """The builder called `name`.

    Raises:
        ParameterError: TFDS has no such builder, or the builder has no such config.
    """
    known = tfds.list_builders(with_community_datasets=False)
    if name.split("/")[0] not in known:
        hint = suggestion(name, [*get_args(LocalSource), *known]) or (
            " The names: https://www.tensorflow.org/datasets/catalog/overview"
        )
        raise ParameterError(
            f"params.yaml: dataset: expected {LOCAL_SOURCES} or a data set of "
            f"tensorflow-datasets, found '{name}'.{hint}"
        )
    try:
        return tfds.builder(name)
    except ValueError as error:
        raise ParameterError(
            f"params.yaml: dataset: expected a config of {name.split('/')[0]}, "
            f"found '{name}': {one_line(error)}. "
            "Choose another config, as in emnist/letters."
        ) from None


def check_features(name: str, builder: Any) -> tuple[str, str]:  # noqa: ANN401
    """The keys of image and label in the builder's examples.

    Raises:
        DataError: the examples are not images of one shape with a class label each.
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
        f"{one_line(ValueError(features))}. Choose another data set, or "
        "resize the images to one shape and use dataset: folder."
    )


def download(name: str, builder: Any, manual: Path) -> None:  # noqa: ANN401
    """Runs the builder's download and preparation.

    Raises:
        DataError: an archive's SHA-256 is wrong.
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
    """Raises DataError if the SHA-256 of an archive in `manual` is wrong.

    The builder checks it too, but its message has many lines.
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
                f"{found}. Download the archive again."
            )


def check_reachable(name: str, archives: dict[str, Any], manual: Path) -> None:
    """Checks that the server of the first missing archive answers.

    The builder would retry for minutes.

    Raises:
        StorageError: the server does not answer.
    """
    missing = {
        url: archive.filename
        for url, archive in archives.items()
        if not (manual / str(archive.filename)).is_file()
    }
    if not missing:
        return
    first = next(iter(missing))
    # The builder opens the same address.
    request = urllib.request.Request(first, method="HEAD")  # noqa: S310
    try:
        urllib.request.urlopen(request, timeout=REACH_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError:
        return  # the server answers; the builder handles its errors
    except (OSError, ValueError) as error:
        raise StorageError(
            f"dataset {name}: expected an answer from {urlsplit(first).hostname}, "
            f"found {one_line(error)}. Put {', '.join(missing.values())} into "
            f"{manual}, or use dataset: {LOCAL_SOURCES}; these need no network."
        ) from None


def read_tfds_split(builder: Any, split: str, image: str, label: str) -> Examples:  # noqa: ANN401
    """Reads a split in the order of its files, which is the same on every machine.

    Args:
        builder: of the data set, prepared.
        split: its name.
        image: the key of the image in an example.
        label: the key of the label.

    Raises:
        StorageError: the disk is full.
    """
    count = builder.info.splits[split].num_examples
    writer = ImageWriter((count, *builder.info.features[image].shape))
    labels = np.empty(count, np.int32)
    batches = -(-count // READ_BATCH)
    for batch in with_progress(read_batches(builder, split), batches, split, "batch"):
        labels[writer.count : writer.count + len(batch[label])] = batch[label]
        writer.add(batch[image])
    return Examples(writer.images(), labels[: writer.count])


def read_batches(builder: Any, split: str) -> Iterator[dict[str, np.ndarray]]:  # noqa: ANN401
    """Yields the split's examples as numpy arrays, `READ_BATCH` at a time."""
    one_file_at_a_time = tfds.ReadConfig(interleave_cycle_length=1)
    dataset = builder.as_dataset(
        split=split, shuffle_files=False, read_config=one_file_at_a_time
    )
    yield from tfds.as_numpy(dataset.batch(READ_BATCH).prefetch(2))
