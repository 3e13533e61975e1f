"""The user's own images: `train/<class>/*.png`, and `test/<class>/*.png` if there."""

import os
from pathlib import Path

import numpy as np

from src.data.examples import Examples, Source
from src.data.lazy_images import ImageWriter
from src.errors import DataError
from src.sources.image_file import SUFFIXES, open_image
from src.storage.reading import check_inside

MOST_PIXELS = 4096 * 4096  # of a training image: a batch of them lies in memory
MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}  # as stored: as read


def load_folder(folder: Path) -> Source:
    """Reads PNG and JPEG files; the class is the name of the folder they lie in.

    Raises:
        DataError: no image, a class in test that train lacks, a file that is no image,
            or an image of another shape than the first.
    """
    train = list_images(folder / "train")
    class_names = sorted({path.parent.name for path in train})
    has_test = os.path.lexists(folder / "test")  # a broken link is an error
    test = list_images(folder / "test") if has_test else None
    for path in test or []:
        if path.parent.name not in class_names:
            raise DataError(
                f"{path}: expected one of the classes in {folder / 'train'} "
                f"({', '.join(class_names)}), found '{path.parent.name}'. Rename it."
            )
    first = read_image(train[0], train[0], None)
    return Source(
        name="folder",
        version="none",
        class_names=class_names,
        train=read_images(train, class_names, first.shape, train[0]),
        validation=None,
        test=read_images(test, class_names, first.shape, train[0]) if test else None,
    )


def list_images(folder: Path) -> list[Path]:
    """The image files two levels down, in an order that no file system decides.

    Raises:
        DataError: there is none.
    """
    paths = sorted(path for path in folder.glob("*/*") if not path.name.startswith("."))
    for path in paths:
        check_inside(path, folder.parent, folder)
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(
                f"{path}: expected a file that ends in {', '.join(sorted(SUFFIXES))}, "
                f"found '{path.suffix}'. Convert or remove it."
            )
    if not paths:
        raise DataError(
            f"{folder}: expected images in {folder}/<class>/*.png or *.jpg, found none."
            " Put them there, or set data_path in params.yaml."
        )
    return paths


def read_images(
    paths: list[Path], class_names: list[str], shape: tuple[int, ...], first: Path
) -> Examples:
    """Reads all files.

    Raises:
        DataError: a file is no image, or its shape is not `shape`, that of `first`.
        StorageError: the disk is full.
    """
    spool = ImageWriter((len(paths), *shape))
    for path in paths:
        spool.add(read_image(path, first, shape)[np.newaxis])
    number = {name: index for index, name in enumerate(class_names)}
    labels = [number[path.parent.name] for path in paths]
    return Examples(spool.images(), np.array(labels, np.int32))


def read_image(path: Path, first: Path, shape: tuple[int, ...] | None) -> np.ndarray:
    """One image as uint8 `[height, width, 1 or 3]`.

    Args:
        path: the file.
        first: the file that `shape` is from, for the message.
        shape: what the image must have; None: any.

    Raises:
        DataError: no image, a broken one, one of another shape, or one with
            transparency or 16 bits.
    """
    with open_image(path, path, MOST_PIXELS) as image:
        if image.mode not in MODES or "transparency" in image.info:
            raise DataError(
                f"{path}: expected a grey or RGB image without transparency, found "
                f"mode {image.mode}. Convert it."
            )
        # Before any pixel is unpacked.
        found = (image.height, image.width, len(MODES[image.mode]))
        if shape is not None and found != shape:
            raise DataError(
                f"{path}: expected height, width, channels {list(shape)} as in "
                f"{first}, found {list(found)}. Bring all images to one shape."
            )
        pixels = np.asarray(image.convert(MODES[image.mode]), np.uint8)
    return pixels.reshape(found)
