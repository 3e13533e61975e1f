"""From a picture file to pixels, for prepare, predict and exported networks alike.

Every file is treated as untrusted. Export copies this module beside the exported files,
so it imports nothing of the project.
"""

import io
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image, UnidentifiedImageError

from src.errors import DataError, one_line

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif"),
}
KINDS = "PNG, JPEG, WebP, BMP, GIF, TIFF, AVIF or HEIC"
MAX_PIXELS = 120_000_000  # a large camera's; a small file can claim far more
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
WIDE = 257  # from 16 to 8 bits: 65535 becomes 255
DRAFT = 2  # a JPEG is decoded at a scale of at least this many times its final size
GREY_TOLERANCE = 8  # of 255; JPEG noise moves the channels of a grey picture less apart
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
UNREADABLE = (  # what Pillow's decoders raise for damaged files
    *(UnidentifiedImageError, Image.DecompressionBombError, struct.error),
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError),
    *(ArithmeticError, NotImplementedError, RuntimeError, AttributeError),
)


class PictureError(ValueError):
    """A file is no picture that can be used. The message says what was found."""


class PicturePolicy(NamedTuple):
    """How pictures become inputs of a network; `manifest.json` records it."""

    size: tuple[int, int]  # height and width
    fit: str  # pad, crop or stretch
    channels: int  # 1: grey, 3: RGB
    background: str  # white or black: under transparency, and around a padded picture

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """The policy in the record of a manifest."""
        height, width = record["size"]
        channels, background = record["channels"], record["background"]
        return cls((height, width), record["fit"], channels, background)

    def record(self) -> dict[str, Any]:
        """The policy as a manifest records it."""
        return {**self._asdict(), "size": list(self.size)}


def read_pixels(source: Path | bytes, policy: PicturePolicy) -> np.ndarray:
    """Reads a picture as uint8 `[height, width, channels]`, as the policy says.

    Raises:
        PictureError: the file is no picture, too large, or damaged.
    """
    with open_picture(source) as picture:
        draft(picture, policy)
        return to_pixels(fitted(upright(picture, policy), policy), policy.channels)


def to_pixels(picture: Image.Image, channels: int) -> np.ndarray:
    """The pixels of a picture of mode L or RGB, uint8 `[height, width, channels]`."""
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"), np.uint8)
    return pixels.reshape(picture.height, picture.width, channels)


def is_colour(pixels: np.ndarray) -> bool:
    """Whether any pixel's channels differ by more than `GREY_TOLERANCE`."""
    spread = pixels.max(-1).astype(np.int16) - pixels.min(-1)
    return bool((spread > GREY_TOLERANCE).any())


@contextmanager
def open_picture(source: Path | bytes) -> Iterator[Image.Image]:
    """Opens a picture; its pixels are decoded where the block uses them.

    Raises:
        PictureError: the file is no picture, too large, or damaged.
    """
    try:
        if isinstance(source, Path) and not source.is_file():
            raise PictureError("no file")  # opening a pipe would block
        if is_heif(source):
            enable_heif()
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                size = f"{picture.width} x {picture.height}"
                raise PictureError(f"{size} pixels, which are too many")
            yield picture
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(describe(first_bytes(source))) from None
    except UNREADABLE as error:
        raise PictureError(" ".join(str(error).split()) or repr(error)) from None


def first_bytes(source: Path | bytes) -> bytes:
    """The first 16 bytes of a file."""
    if isinstance(source, bytes):
        return source[:16]
    with source.open("rb") as file:
        return file.read(16)


def describe(begin: bytes) -> str:
    """Describes an unknown file by its first bytes."""
    if begin.startswith((b"\x89PNG", b"\xff\xd8", b"GIF8", b"RIFF", b"BM")):
        return "a damaged one"
    return f"a file that begins with {begin[:8]!r}" if begin else "an empty file"


def is_heif(source: Path | bytes) -> bool:
    """Whether the file is HEIF by its first bytes."""
    begin = first_bytes(source)
    return begin[4:8] == b"ftyp" and begin[8:12] in HEIF_BRANDS


def enable_heif() -> None:
    """Lets Pillow read HEIC, the format of iPhones.

    Raises:
        PictureError: the package pillow-heif is not installed.
    """
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise PictureError(
            "HEIC, which needs the package pillow-heif: install it, or convert the "
            "file to JPEG"
        ) from None
    register_heif_opener()


def draft(picture: Image.Image, policy: PicturePolicy) -> None:
    """Lets a JPEG be decoded at a fraction of its size, which is much faster."""
    if picture.format == "JPEG":
        height, width = policy.size
        if orientation(picture) >= 5:  # width and height will be exchanged
            height, width = width, height
        largest = max(width / picture.width, height / picture.height)
        if policy.fit != "stretch":  # both sides are scaled alike
            width, height = picture.width * largest, picture.height * largest
        picture.draft(None, (round(DRAFT * width), round(DRAFT * height)))


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none, or it cannot be read."""
    try:
        value = picture.getexif().get(ORIENTATION, 1)
    except UNREADABLE:
        return 1
    return value if value in TURNS else 1


def upright(picture: Image.Image, policy: PicturePolicy) -> Image.Image:
    """Decodes to 8 bits without transparency, in mode L or RGB, the right way up.

    Of an animation or several pages, the first.

    Raises:
        PictureError: the pixels have no scale that is known.
    """
    picture.load()  # TIFF pictures are turned by this, and lose the tag
    turn = TURNS.get(orientation(picture))
    turned = picture if turn is None else picture.transpose(turn)
    if turned.mode.startswith("I"):
        return Image.fromarray(from_16_bits(turned))
    if turned.mode == "F":
        raise PictureError("pixels of type float, whose scale is unknown")
    if turned.has_transparency_data:
        backdrop = Image.new("RGBA", turned.size, policy.background)
        return Image.alpha_composite(backdrop, turned.convert("RGBA")).convert("RGB")
    return turned.convert("L" if turned.mode in ("1", "L") else "RGB")


def from_16_bits(picture: Image.Image) -> np.ndarray:
    """Pixels of 16 bits, scaled to uint8 `[height, width]`.

    Raises:
        PictureError: a pixel has more than 16 bits.
    """
    pixels = np.asarray(picture).astype(np.int64)
    if pixels.min(initial=0) < 0 or pixels.max(initial=0) > 65535:
        raise PictureError("pixels of 32 bits, whose scale is unknown")
    return (pixels // WIDE).astype(np.uint8)


def fitted(picture: Image.Image, policy: PicturePolicy) -> Image.Image:
    """Resizes a picture of mode L or RGB to the policy's size, antialiased."""
    height, width = policy.size
    if picture.size == (width, height):
        return picture
    ratios = width / picture.width, height / picture.height
    if policy.fit == "stretch":
        return picture.resize((width, height), Image.Resampling.BILINEAR)
    if policy.fit == "crop":
        across, down = width / max(ratios), height / max(ratios)
        left, top = (picture.width - across) / 2, (picture.height - down) / 2
        box = left, top, left + across, top + down
        return picture.resize((width, height), Image.Resampling.BILINEAR, box)
    across, down = (max(1, round(side * min(ratios))) for side in picture.size)
    small = picture.resize((across, down), Image.Resampling.BILINEAR)
    padded = Image.new(picture.mode, (width, height), policy.background)
    padded.paste(small, ((width - across) // 2, (height - down) // 2))
    return padded


# The former reader, to be removed once every caller has moved.


@contextmanager
def open_image(
    source: Path | io.BytesIO,
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


def unknown_kind(source: Path | io.BytesIO) -> str:
    """Describes a file by its first bytes: `a file that begins with b'GIF89a'`."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            begin = file.read(8)
    else:
        begin = source.getvalue()[:8]
    if begin.startswith((b"\x89PNG", b"\xff\xd8")):
        return "a damaged one"
    return f"a file that begins with {begin!r}" if begin else "an empty file"
