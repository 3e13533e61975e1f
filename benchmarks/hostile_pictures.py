"""Seconds and memory that damaged and malicious picture files cost.

`python -m benchmarks.hostile_pictures` makes a dozen files of each format. It reads
each in its own process and prints the answer, the seconds, and the memory beyond that
of an ordinary picture of the format. It asserts nothing.
"""

import io
import json
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from benchmarks.project import ROOT
from benchmarks.sections import table

WIDTH, HEIGHT = 251, 241  # found again in the headers, to be replaced
CLAIMED = 16_000  # of each side, in a header
LARGE = 10_000  # sides of a picture of one colour: small on disk, 300 MB of pixels
FRAMES, GARBAGE = 500, 20 << 20
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
ANIMATED = ("PNG", "WEBP", "GIF", "TIFF", "AVIF")
SIZES = (">II", "<II", ">HH", "<HH")  # how formats write width and height


def ordinary(kind: str, shift: int = 0) -> Image.Image:
    """A smooth picture in a mode that the format has."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([rows + shift, columns, rows // 2 + columns // 2], 2) % 256
    picture = Image.fromarray(pixels.astype(np.uint8))
    return picture.convert("P") if kind == "GIF" else picture


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401 - Pillow's
    """The content of a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def hostile_files(kind: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of a format; the first is the ordinary one."""
    whole = encoded(ordinary(kind), kind)
    half, rng = len(whole) // 2, np.random.default_rng(0)
    yield "ordinary", whole
    yield "cut in half", whole[:half]
    yield "the first 32 bytes", whole[:32]
    yield "second half zero", whole[:half] + bytes(len(whole) - half)
    yield "header repeated", whole[:32] * 10_000
    yield "20 MB appended", whole + bytes(GARBAGE)
    for count in (1, 10, 100):
        flipped = np.frombuffer(whole, np.uint8).copy()
        flipped[rng.integers(16, len(whole), count)] ^= 255
        yield f"{count} bytes flipped", flipped.tobytes()
    yield "false size", with_size(whole, CLAIMED)
    yield "size zero", with_size(whole, 0)
    mode = "P" if kind == "GIF" else "RGB"
    yield (
        f"{LARGE} x {LARGE} of one colour",
        encoded(Image.new(mode, (LARGE, LARGE)), kind),
    )
    if kind in ANIMATED:
        frames = [ordinary(kind, shift) for shift in range(1, FRAMES)]
        frames = [frame.resize((32, 32)) for frame in frames]
        options = {"save_all": True, "append_images": frames[1:]}
        yield f"{FRAMES} frames", encoded(frames[0], kind, **options)
    if kind == "PNG":
        info = PngInfo()
        info.add_text("bomb", "a" * (300 << 20), zip=True)
        yield "300 MB of text, compressed", encoded(ordinary(kind), kind, pnginfo=info)


def with_size(content: bytes, side: int) -> bytes:
    """A file whose header claims another width and height."""
    for form in SIZES:
        for sides in ((WIDTH, HEIGHT), (HEIGHT, WIDTH)):
            content = content.replace(
                struct.pack(form, *sides), struct.pack(form, side, side)
            )
    for tag, old in ((256, WIDTH), (257, HEIGHT)):  # TIFF's
        for form in ("<HHII", "<HHIHxx"):
            kind = 4 if form == "<HHII" else 3
            found = struct.pack(form, tag, kind, 1, old)
            content = content.replace(found, struct.pack(form, tag, kind, 1, side))
    if content[12:16] == b"IHDR":  # PNG checks its header
        check = struct.pack(">I", zlib.crc32(content[12:29]))
        content = content[:29] + check + content[33:]
    return content


def read(path: Path) -> dict[str, Any]:
    """Reads a file as prepare and predict do: the answer, seconds and peak MB."""
    from src.data.pictures import PictureError, PicturePolicy, read_pixels

    policy = PicturePolicy((64, 64), "pad", 3, "white")
    began = time.perf_counter()
    try:
        answer = f"{read_pixels(path, policy).mean():.0f} of 255 on average"
    except PictureError as error:
        answer = f"refused: {error}"
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text().split()
    megabytes = int(status[status.index("VmHWM:") + 1]) / 1e3
    return {"answer": answer, "seconds": seconds, "megabytes": megabytes}


def read_apart(path: Path) -> dict[str, Any]:
    """Reads a file in its own process."""
    command = [sys.executable, "-m", "benchmarks.hostile_pictures", str(path)]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if result.returncode:
        last = result.stderr.strip().rpartition("\n")[2]
        found = f"exit code {result.returncode}: {last}"
        return {"answer": found, "seconds": float("nan"), "megabytes": float("nan")}
    found_values: dict[str, Any] = json.loads(result.stdout)
    return found_values


def main() -> None:
    """Reads the file in the arguments, or makes and reads all files."""
    if sys.argv[1:]:
        print(json.dumps(read(Path(sys.argv[1]))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in FORMATS:
            if kind in ("AVIF", "WEBP") and not features.check(kind.lower()):
                continue
            ordinary_peak = 0.0
            for name, content in hostile_files(kind):
                path = Path(folder) / f"picture.{kind.lower()}"
                path.write_bytes(content)
                found = read_apart(path)
                ordinary_peak = ordinary_peak or found["megabytes"]
                beyond = found["megabytes"] - ordinary_peak
                seconds, answer = f"{found['seconds']:.2f}", found["answer"][:70]
                rows.append([kind, name, seconds, f"{beyond:.0f}", answer])
                print(kind, name, seconds, f"{beyond:.0f}", answer, flush=True)
    print(table(["format", "file", "seconds", "MB beyond", "answer"], rows))


if __name__ == "__main__":
    main()
