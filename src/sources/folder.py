"""The user's own images: `train/<class>/*.png`, optionally `test/<class>/*.png`."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from src.data.examples import Examples, Source
from src.data.lazy_images import ImageWriter
from src.data.pictures import KINDS, SUFFIXES, PictureError, open_picture
from src.errors import DataError
from src.storage.reading import check_inside

MAX_TRAINING_PIXELS = 4096 * 4096  # a batch of images must fit in memory
READ_AS = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}  # Pillow's mode in the file


def load_folder(folder: Path) -> Source:
    """Reads PNG and JPEG files; a file's class is the name of its folder.

    Args:
        folder: `data_path`, with the folder `train` and perhaps `test`.

    Raises:
        DataError: there are no images, test has a class that train lacks, a file is no
            image, or an image's shape differs from the first one's.
        StorageError: the disk is full.
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
        train=read_examples(train, class_names, first.shape, train[0]),
        validation=None,
        test=read_examples(test, class_names, first.shape, train[0]) if test else None,
    )


def list_images(folder: Path) -> list[Path]:
    """The image files in the class folders, sorted by path.

    Raises:
        DataError: there are none, or a file is not named like an image.
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


def read_examples(
    paths: list[Path], class_names: list[str], shape: tuple[int, ...], first: Path
) -> Examples:
    """Reads the images and takes their labels from their folders.

    Args:
        paths: the image files.
        class_names: in the order of the labels.
        shape: height, width and channels that each image must have.
        first: the file that `shape` is from, for the message.

    Raises:
        DataError: a file is no image, or its shape is not `shape`.
        StorageError: the disk is full.
    """
    writer = ImageWriter((len(paths), *shape))
    for path in paths:
        writer.add(read_image(path, first, shape)[np.newaxis])
    label_of = {name: label for label, name in enumerate(class_names)}
    labels = [label_of[path.parent.name] for path in paths]
    return Examples(writer.images(), np.array(labels, np.int32))


def read_image(path: Path, first: Path, shape: tuple[int, ...] | None) -> np.ndarray:
    """Reads an image as uint8 `[height, width, 1 or 3]`.

    Args:
        path: the file.
        first: the file that `shape` is from, for the message.
        shape: the shape that the image must have; None: any.

    Raises:
        DataError: the file is no image or broken, the shape differs, or the image has
            transparency or 16 bits.
    """
    try:
        with open_picture(path) as image:
            return checked_pixels(image, path, first, shape)
    except PictureError as error:
        raise DataError(
            f"{path}: expected a {KINDS} image, found {error}. Replace or remove it."
        ) from None


def checked_pixels(
    image: Image.Image, path: Path, first: Path, shape: tuple[int, ...] | None
) -> np.ndarray:
    """The pixels of an open image; arguments and errors as for `read_image`."""
    if image.width * image.height > MAX_TRAINING_PIXELS:
        size = f"{image.width} x {image.height}"
        raise PictureError(f"{size} pixels, too many")
    if image.mode not in READ_AS or "transparency" in image.info:
        raise DataError(
            f"{path}: expected a grey or RGB image without transparency, found "
            f"mode {image.mode}. Convert it."
        )
    # Compared before any pixel is decoded.
    found = (image.height, image.width, len(READ_AS[image.mode]))
    if shape is not None and found != shape:
        raise DataError(
            f"{path}: expected height, width, channels {list(shape)} as in "
            f"{first}, found {list(found)}. Resize all images to one shape."
        )
    pixels = np.asarray(image.convert(READ_AS[image.mode]), np.uint8)
    return pixels.reshape(found)
