"""PNG and JPEG files, opened as if a stranger had made them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from src.errors import DataError, one_line

# A small file can hold a very large image; Pillow only warns of the smaller ones.
Image.MAX_IMAGE_PIXELS = 120_000_000  # a large camera's
warnings.simplefilter("error", Image.DecompressionBombWarning)

SUFFIXES = {".png", ".jpg", ".jpeg"}


@contextmanager
def open_image(
    source: Path | BytesIO,
    name: object,
    most: int = Image.MAX_IMAGE_PIXELS,
    repair: str = "Replace or remove it.",
) -> Iterator[Image.Image]:
    """An image, none of whose pixels is unpacked yet.

    Args:
        source: a file, or its content.
        name: of the file, for the message.
        most: pixels that it may have.
        repair: what its reader should do, a sentence.

    Raises:
        DataError: no image, or one that turns out to be broken where it is used.
    """
    try:
        if isinstance(source, Path) and not source.is_file():
            raise ValueError("no file")  # a pipe would be waited for
        with Image.open(source, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > most:
                raise ValueError(f"{image.width} x {image.height} pixels, too many")
            yield image
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
        OSError,
        ValueError,
        SyntaxError,
    ) as error:
        unknown = isinstance(error, UnidentifiedImageError)
        found = "another kind of file" if unknown else one_line(error)
        raise DataError(
            f"{name}: expected a PNG or JPEG image, found {found}. {repair}"
        ) from None
