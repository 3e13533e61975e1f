"""From a picture file to pixels, for prepare, predict and exported networks alike.

Every file is treated as untrusted. Export copies this module to the exported files,
so it imports nothing of the project.
"""

import importlib
import io
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif"),
}
SYSTEM = {  # files and folders of operating systems, in lower case
    *("__macosx", "@eadir", "thumbs.db", "desktop.ini"),
    *("$recycle.bin", "lost+found", "system volume information"),
}
KINDS = "PNG, JPEG, WebP, BMP, GIF, TIFF, AVIF or HEIC"
# A small file can claim far more. Cameras with 61 megapixels stay below both.
MAX_PIXELS = 120_000_000  # of a JPEG, and of opaque PNG and BMP; up to 5 bytes each
MAX_SCANS = 100  # of a progressive JPEG: each decodes the whole picture again
MAX_COSTLY_PIXELS = 64_000_000  # of others: 9 bytes each while decoded, a WebP 15
DRAFTED, ROW_BY_ROW = ("JPEG", "MPO"), ("PNG", "BMP")  # how they are decoded
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = 5  # this orientation and the larger ones exchange width and height
WIDE = 257  # from 16 to 8 bits: 65535 becomes 255
BAND = 1 << 22  # pixels that are converted at a time, to save memory
DRAFT = 1.4  # a JPEG is decoded at a scale of at least this many times its final size
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
BEGINNINGS = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # no warnings of Pillow
UNREADABLE = (  # what Pillow's decoders raise for damaged files
    *(Image.DecompressionBombError, struct.error, zlib.error, OSError, ValueError),
    *(SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, RuntimeError),
    *(AttributeError, AssertionError),
)


class PictureError(Exception):  # no ValueError: Pillow raises those too
    """A file is no picture that can be used. The message says what was found."""


class PicturePolicy(NamedTuple):
    """How pictures become inputs of a network; `manifest.json` records it."""

    size: tuple[int, int]  # height and width
    fit: str  # pad, crop or stretch
    channels: int  # 1: grey, 3: RGB
    background: str  # white or black: under transparency, and around a padded picture

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "PicturePolicy":
        """The policy in the record of a manifest."""
        values = {name: record[name] for name in cls._fields}
        return cls(**values | {"size": tuple(record["size"])})


def read_pixels(source: Path | bytes, policy: PicturePolicy) -> np.ndarray:
    """Reads a picture as uint8 `[height, width, channels]`, as the policy says.

    Of an animation or of several pages, the first. A picture of the policy's size keeps
    its pixels; others are resized with Pillow's antialiased bilinear filter.

    Raises:
        PictureError: the file is no picture, too large, or damaged.
    """
    with open_picture(source) as picture:
        return pixels_of(picture, policy)


def pixels_of(picture: Image.Image, policy: PicturePolicy) -> np.ndarray:
    """The pixels of an opened picture, as `read_pixels` gives them."""
    content = decode(picture, policy)
    turn = orientation(picture)  # after decoding, in which Pillow turns TIFF
    opaque = without_transparency(picture, policy.background)
    return to_pixels(fitted(opaque, content, turn, policy), policy.channels)


def to_pixels(picture: Image.Image, channels: int) -> np.ndarray:
    """The pixels of a picture of mode L or RGB, uint8 `[height, width, channels]`."""
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"), np.uint8)
    return pixels.reshape(picture.height, picture.width, channels)


@contextmanager
def open_picture(source: Path | bytes) -> Iterator[Image.Image]:
    """Opens a picture; its pixels are decoded where the block uses them.

    Raises:
        PictureError: the file is no picture, too large, or damaged.
    """
    silence_pillow()
    begin = b""
    try:
        if isinstance(source, Path) and not source.is_file():
            raise PictureError("no file")  # opening a pipe would block
        # Not by its path: Pillow would map the file to memory, and mistake the sides of
        # a TIFF picture that is turned.
        file = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        with file:
            begin = file.read(16)
            if begin[4:8] == b"ftyp" and begin[8:12] in HEIF_BRANDS:
                enable_heif()
            Image.init()
            known = [name for name in FORMATS if name in Image.OPEN]
            with Image.open(file, formats=known) as picture:
                check_size(picture)
                check_scans(picture, file)
                yield picture
    except UnidentifiedImageError:
        raise PictureError(describe(begin)) from None
    except Image.DecompressionBombError:
        limit = MAX_PIXELS // 10**6
        raise PictureError(f"pixels above the limit of {limit} million") from None
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"a damaged one: {reason}") from None


def check_size(picture: Image.Image) -> None:
    """Raises PictureError if decoding would need more than 600 MB (a WebP: 1 GB)."""
    drafted = picture.format in DRAFTED
    plain = picture.mode in ("1", "L", "P", "RGB") and not picture.has_transparency_data
    cheap = drafted or (plain and picture.format in ROW_BY_ROW)
    most = MAX_PIXELS if cheap else MAX_COSTLY_PIXELS
    if picture.width * picture.height > most:
        found = f"{picture.width} x {picture.height} pixels"
        raise PictureError(f"{found}, above the limit of {most // 10**6} million")


def check_scans(picture: Image.Image, file: BinaryIO) -> None:
    """Raises PictureError if a progressive JPEG has more scans than any encoder makes.

    `file` is its file; Pillow seeks where it reads on.
    """
    if picture.info.get("progressive"):
        file.seek(0)
        if (scans := file.read().count(b"\xff\xda")) > MAX_SCANS:
            raise PictureError(
                f"a JPEG of {scans} scans, above the limit of {MAX_SCANS}"
            )


def silence_pillow() -> None:
    """Silences Pillow's warnings and log messages, for good.

    They are about files that are read nevertheless. `warnings.catch_warnings` would not
    be safe in threads.
    """
    if QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=QUIET[3].pattern)
    logger = logging.getLogger("PIL")
    if not logger.handlers:  # without one, Python prints errors to stderr
        logger.addHandler(logging.NullHandler())


def describe(begin: bytes) -> str:
    """Describes an unknown file by its first bytes."""
    if begin.startswith(BEGINNINGS) or begin[4:8] == b"ftyp":
        return "a damaged one"
    return f"a file that begins with {begin[:8]!r}" if begin else "an empty file"


def enable_heif() -> None:
    """Lets Pillow read HEIC; raises PictureError if pillow-heif is not installed."""
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        raise PictureError(
            "HEIC: install pillow-heif to read it, or convert it to JPEG"
        ) from None
    heif.register_heif_opener()


def decode(picture: Image.Image, policy: PicturePolicy) -> tuple[float, float]:
    """Decodes a picture; a JPEG at a fraction of its size, which is much faster.

    Returns:
        Width and height of the picture's content in decoded pixels. They are not whole
        if the size is no multiple of the scale: the last pixels are partly empty.
    """
    drafted = None
    if picture.format in DRAFTED:
        height, width = policy.size
        size = (height, width) if orientation(picture) >= SIDEWAYS else (width, height)
        ratios = size[0] / picture.width, size[1] / picture.height
        ratio = DRAFT * (min(ratios) if policy.fit == "pad" else max(ratios))
        least = [max(1, round(ratio * side)) for side in picture.size]
        drafted = picture.draft(None, (least[0], least[1]))
    picture.load()
    return (drafted[1][2], drafted[1][3]) if drafted else picture.size


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none, or it cannot be read."""
    try:
        value = picture.getexif().get(ORIENTATION, 1)
        return int(value) if value in TURNS else 1
    except UNREADABLE:
        return 1


def without_transparency(picture: Image.Image, background: str) -> Image.Image:
    """Converts to mode L or RGB with 8 bits, composed onto white or black.

    Raises:
        PictureError: the pixels have no scale that is known.
    """
    if picture.mode.startswith("I;16"):
        return from_16_bits(picture, background)
    if picture.mode in ("I", "F"):
        kind = "integers of 32 bits" if picture.mode == "I" else "floating-point"
        raise PictureError(f"pixels that are {kind}, whose scale is unknown")
    if picture.has_transparency_data:
        drawn = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        composed = Image.new("RGB", picture.size, background)
        composed.paste(drawn, mask=drawn)
        return composed
    mode = "L" if picture.mode in ("1", "L") else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)  # a copy


def from_16_bits(picture: Image.Image, background: str = "white") -> Image.Image:
    """Scales a grey picture with 16 bits to mode L; in a PNG, a value may be clear."""
    clear = picture.info.get("transparency")
    scaled = Image.new("L", picture.size)
    rows = max(1, BAND // picture.width)
    for top in range(0, picture.height, rows):
        bottom = min(top + rows, picture.height)
        band = np.asarray(picture.crop((0, top, picture.width, bottom)))
        pixels = (band // WIDE).astype(np.uint8)
        if isinstance(clear, int):
            pixels[band == clear] = 255 if background == "white" else 0
        scaled.paste(Image.fromarray(pixels), (0, top))
    return scaled


def fitted(
    picture: Image.Image,
    content: tuple[float, float],
    turn: int,
    policy: PicturePolicy,
) -> Image.Image:
    """Resizes a picture of mode L or RGB to the policy's size, and turns it.

    It is turned last, because a small picture is turned faster. `content` is its width
    and height, as `decode` returns them; `turn` is its EXIF orientation.
    """
    height, width = policy.size
    size = (height, width) if turn >= SIDEWAYS else (width, height)
    across, down = content
    ratios = size[0] / across, size[1] / down
    box = (0.0, 0.0, across, down)
    if policy.fit == "crop":
        used = min(across, size[0] / max(ratios)), min(down, size[1] / max(ratios))
        left, top = (across - used[0]) / 2, (down - used[1]) / 2
        box = left, top, min(left + used[0], across), min(top + used[1], down)
    elif policy.fit == "pad":
        wide, tall = (max(1, round(side * min(ratios))) for side in content)
        size = wide, tall
    small = picture.resize(size, Image.Resampling.BILINEAR, box)
    if turn in TURNS:
        small = small.transpose(TURNS[turn])
    padded = Image.new(small.mode, (width, height), policy.background)
    padded.paste(small, ((width - small.width) // 2, (height - small.height) // 2))
    return padded
