"""Folders of small pictures in the layouts that people have."""

import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from src.sources.read_pictures import PictureOptions

OPTIONS = PictureOptions(
    size=None, fit="pad", channels="auto", background="white", on_broken="stop"
)


def pixels_of(name: str, size=(7, 6), channels: int = 1) -> np.ndarray:
    """Random pixels, which depend on the name; `size` is width and height."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    shape = (size[1], size[0]) if channels == 1 else (size[1], size[0], channels)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def write_pictures(folder: Path, *names: str, **options) -> Path:
    """Writes pictures, each of the pixels that its whole name decides."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        size = options.get("size", (7, 6))
        pixels = pixels_of(name, size, options.get("channels", 1))
        Image.fromarray(pixels).save(path)
    return folder


def write_table(path: Path, *rows: str) -> None:
    """Writes a table of the given lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
