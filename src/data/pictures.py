"""From an image file to pixels; every file is treated as untrusted."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from src.errors import DataError, one_line

SUFFIXES = {".png", ".jpg", ".jpeg"}
MAX_PIXELS = 120_000_000  # a large camera's; a small file can claim far more


@contextmanager
def open_image(
    source: Path | BytesIO,
    name: object,
    max_pixels: int = MAX_PIXELS,
    repair: str = "Replace or remove it.",
) -> Iterator[Image.Image]:
    """Opens an image; its pixels are decoded where the block uses them.

    Args:
        source: a file, or its content.
        name: of the file, for the message.
        max_pixels: the largest width times height that is accepted.
        repair: what to do about a bad file, a sentence.

    Raises:
        DataError: the file is no PNG or JPEG image, too large, or broken.
    """
    try:
        if isinstance(source, Path) and not source.is_file():
            raise ValueError("no file")  # opening a pipe would block
        with warnings.catch_warnings():
            # Pillow warns of images that are allowed here.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source, formats=("PNG", "JPEG")) as image:
                if image.width * image.height > max_pixels:
                    raise ValueError(f"{image.width} x {image.height} pixels, too many")
                yield image
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        ValueError,
        SyntaxError,
    ) as error:
        unknown = isinstance(error, UnidentifiedImageError)
        found = unknown_kind(source) if unknown else one_line(error)
        raise DataError(
            f"{name}: expected a PNG or JPEG image, found {found}. {repair}"
        ) from None


def unknown_kind(source: Path | BytesIO) -> str:
    """Describes a file by its first bytes: `a file that begins with b'GIF89a'`."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            begin = file.read(8)
    else:
        begin = source.getvalue()[:8]
    if begin.startswith((b"\x89PNG", b"\xff\xd8")):
        return "a damaged one"
    return f"a file that begins with {begin!r}" if begin else "an empty file"
