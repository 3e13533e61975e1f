"""The same scene in every kind of picture file, and what its pixels should be."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 9, 14
ORIENTATION = 0x0112
# By the EXIF standard, without Pillow: which side of the scene row 0 and column 0 are.
TURNED = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels.transpose(1, 0, 2)[:, ::-1],
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: pixels.transpose(1, 0, 2)[::-1],
}


class Kind(NamedTuple):
    """A kind of picture file."""

    picture: Image.Image
    pixels: np.ndarray  # uint8 [height, width, 3], as stored, on a white background
    options: dict  # of Image.save
    turns: bool = True  # whether the format has an orientation
    tolerance: int = 0  # of its compression, or of rounding
    suffix: str = ""

    def content(self, orientation=1) -> bytes:
        """The file."""
        options = dict(self.options)
        if orientation != 1 and options["format"] == "TIFF":
            options["tiffinfo"] = {ORIENTATION: orientation}
        elif orientation != 1:
            exif = Image.Exif()
            exif[ORIENTATION] = orientation
            options["exif"] = exif
        buffer = io.BytesIO()
        self.picture.save(buffer, **options)
        return buffer.getvalue()


def scene(height=HEIGHT, width=WIDTH):
    """Smooth colours that differ in every corner, uint8 `[height, width, 3]`."""
    y, x = np.mgrid[:height, :width]
    down, across = y / max(height - 1, 1), x / max(width - 1, 1)
    red, green = 250 * across, 20 + 200 * down
    blue = 240 - 150 * across * down - 60 * down
    return np.stack([red, green, blue], -1).round().astype(np.uint8)


def photograph(height, width):
    """Colours with edges and some noise, as a camera takes them."""
    rng = np.random.default_rng(1)
    pixels = scene(height, width).astype(float)
    for _ in range(40):
        top, left = rng.integers(0, height), rng.integers(0, width)
        part = pixels[top : top + height // 6, left : left + width // 6]
        part += rng.normal(0, 60, 3)
    pixels += rng.normal(0, 4, pixels.shape)
    return pixels.clip(0, 255).round().astype(np.uint8)


def ramp():
    """Opacity from left to right, uint8 `[height, width]`."""
    return np.tile(np.linspace(0, 255, WIDTH).round().astype(np.uint8), (HEIGHT, 1))


def on_white(colours, opacity):
    """Colours under an opacity in [0, 255], composed by hand."""
    share = opacity[..., None] / 255
    return (colours * share + 255 * (1 - share)).round().astype(np.uint8)


def three(grey):
    """A grey picture as RGB."""
    return np.repeat(grey[..., None], 3, -1)


def palette(indices, colours):
    """A picture of mode P."""
    picture = Image.fromarray(indices, "P")
    picture.putpalette(colours.astype(np.uint8).tobytes())
    return picture


def kinds() -> dict[str, Kind]:
    """Every kind of picture, by name."""
    colours, opacity = scene(), ramp()
    grey = colours[:, :, 0]
    rgb, level = Image.fromarray(colours), Image.fromarray(grey)
    wide = grey.astype(np.uint16) * 257
    bits = grey > 127
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    indices = ((x + 3 * y) % 16).astype(np.uint8)
    table = np.random.default_rng(0).integers(0, 256, (16, 3))
    painted = table[indices].astype(np.uint8)
    clear = np.where(indices == 5, 0, 255).astype(np.uint8)
    rgba = Image.fromarray(np.dstack([colours, opacity]))
    inks = np.dstack([255 - colours, np.full_like(grey, 40)])
    printed = (colours * (215 / 255)).round().astype(np.uint8)
    cmyk = Image.frombytes("CMYK", (WIDTH, HEIGHT), inks.tobytes())
    red = np.where((indices == 5)[..., None], (255, 0, 0), colours).astype(np.uint8)
    jpeg = {"format": "JPEG", "quality": 100, "subsampling": 0}
    frames = [Image.new("P", (WIDTH, HEIGHT)), Image.new("P", (WIDTH, HEIGHT), 3)]
    animated = {"format": "GIF", "save_all": True, "append_images": frames}
    return {
        "PNG 1": Kind(Image.fromarray(bits), three(bits * np.uint8(255)), png()),
        "PNG L": Kind(level, three(grey), png()),
        "PNG LA": Kind(
            Image.fromarray(np.dstack([grey, opacity]), "LA"),
            on_white(three(grey), opacity),
            png(),
            tolerance=1,
        ),
        "PNG P": Kind(palette(indices, table), painted, png()),
        "PNG P with transparency": Kind(
            palette(indices, table), on_white(painted, clear), png(transparency=5)
        ),
        "PNG RGB": Kind(rgb, colours, png()),
        "PNG RGB with transparency": Kind(
            Image.fromarray(red), on_white(red, clear), png(transparency=(255, 0, 0))
        ),
        "PNG RGBA": Kind(rgba, on_white(colours, opacity), png(), tolerance=1),
        "PNG I;16": Kind(Image.fromarray(wide), three(grey), png()),
        "JPEG L": Kind(level, three(grey), jpeg, tolerance=3),
        "JPEG RGB": Kind(rgb, colours, jpeg, tolerance=4),
        "JFIF": Kind(rgb, colours, jpeg, tolerance=4, suffix=".jfif"),
        "JPEG CMYK": Kind(cmyk, printed, jpeg, tolerance=5),
        "WebP RGB": Kind(rgb, colours, {"format": "WEBP", "lossless": True}),
        "WebP RGBA": Kind(
            rgba,
            on_white(colours, opacity),
            {"format": "WEBP", "lossless": True, "exact": True},
            tolerance=1,
        ),
        "BMP": Kind(rgb, colours, {"format": "BMP"}, turns=False),
        "GIF": Kind(palette(indices, table), painted, animated, turns=False),
        "GIF with transparency": Kind(
            palette(indices, table),
            on_white(painted, clear),
            {"format": "GIF", "transparency": 5},
            turns=False,
        ),
        "TIFF L": Kind(level, three(grey), {"format": "TIFF"}),
        "TIFF RGB": Kind(rgb, colours, {"format": "TIFF", "compression": "tiff_lzw"}),
        "TIFF I;16": Kind(Image.fromarray(wide), three(grey), {"format": "TIFF"}),
        "TIFF CMYK": Kind(cmyk, printed, {"format": "TIFF"}, tolerance=1),
        "AVIF": Kind(
            rgb, colours, {"format": "AVIF", "quality": 100, "subsampling": "4:4:4"},
            tolerance=5,
        ),
    }  # fmt: skip


def png(**options):
    """Options that save a PNG."""
    return {"format": "PNG", **options}


KINDS = kinds()
CASES = [
    (name, orientation)
    for name, kind in KINDS.items()
    for orientation in (TURNED if kind.turns else [1])
]


def suffix(kind: Kind) -> str:
    """The usual end of the file's name."""
    usual = {"JPEG": ".jpg", "TIFF": ".tif"}
    name = kind.options["format"]
    return kind.suffix or usual.get(name, f".{name.lower()}")
