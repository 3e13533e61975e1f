"""Untrusted image files: their size is checked before their pixels are decoded."""

import struct
import subprocess
import sys
import zlib
from io import BytesIO

import pytest

from src.data.pictures import MAX_PIXELS, open_image
from src.errors import DataError
from tests.helpers.imports import ROOT


def png_header(width, height):
    """A PNG that claims a size and ends where its pixels should begin."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    size = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    content = chunk(b"IHDR", size) + chunk(b"IDAT", b"")
    return BytesIO(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize(
    ("width", "found"),
    [
        (1 + MAX_PIXELS // 10_000, "12001 x 10000 pixels, too many"),
        # Beyond twice its own limit, Pillow refuses the image by itself.
        (60_000, "Image size .* exceeds limit"),
    ],
)
def test_image_with_too_many_pixels_is_refused(width, found):
    with (
        pytest.raises(DataError, match=f"my.png: expected .* image, found {found}"),
        open_image(png_header(width, 10_000), "my.png"),
    ):
        pass


def test_large_image_is_opened_without_a_warning():
    with open_image(png_header(MAX_PIXELS // 10_000, 10_000), "my.png") as image:
        assert image.size == (MAX_PIXELS // 10_000, 10_000)


def test_import_changes_nothing_in_pillow_or_warnings():
    source = (
        "import warnings\n"
        "from PIL import Image\n"
        "before = Image.MAX_IMAGE_PIXELS\n"
        "import src.data.pictures, src.sources.folder, src.sources.load\n"
        "assert Image.MAX_IMAGE_PIXELS == before\n"
        "categories = {each[2] for each in warnings.filters}\n"
        "assert Image.DecompressionBombWarning not in categories\n"
    )
    subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=True)
