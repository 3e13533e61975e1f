"""From a picture file to pixels; untrusted files are refused within bounds."""

import io
import json
import struct
import subprocess
import sys
import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image

from src.data.picture_facts import GREY_TOLERANCE, is_colour, read_upright_size
from src.data.pictures import (
    MAX_COSTLY_PIXELS,
    MAX_PIXELS,
    PictureError,
    PicturePolicy,
    open_picture,
    read_pixels,
)
from tests.helpers.imports import ROOT
from tests.helpers.pictures import (
    CASES,
    HEIGHT,
    KINDS,
    TURNED,
    WIDTH,
    photograph,
    scene,
)


def saved(picture, format="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def policy(size, fit="pad", channels=3, background="white"):
    return PicturePolicy(size, fit, channels, background)


def differ(found, expected):
    assert found.shape == expected.shape
    return np.abs(found.astype(int) - expected).max()


def luma(pixels):
    """ITU-R BT.601."""
    return (pixels @ (0.299, 0.587, 0.114)).round()[..., None]


@pytest.mark.parametrize(("name", "orientation"), CASES)
def test_every_kind_gives_the_pixels_that_viewers_show(tmp_path, name, orientation):
    kind = KINDS[name]
    expected = TURNED[orientation](kind.pixels)
    content = kind.content(orientation)
    (tmp_path / "picture").write_bytes(content)
    colours = policy(expected.shape[:2])
    for source in (content, tmp_path / "picture"):
        assert differ(read_pixels(source, colours), expected) <= kind.tolerance
    grey = read_pixels(content, colours._replace(channels=1))
    assert differ(grey, luma(expected)) <= kind.tolerance + 1
    assert read_upright_size(content) == expected.shape[1::-1]


TRANSPARENT = [
    "PNG LA", "PNG P with transparency", "PNG RGB with transparency",
    "PNG RGBA", "WebP RGBA", "GIF with transparency",
]  # fmt: skip


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparency_is_composed_onto_the_background(name):
    content = KINDS[name].content()
    on_white, on_black = (
        read_pixels(content, policy((HEIGHT, WIDTH), background=background))
        for background in ("white", "black")
    )
    lost = on_white.astype(int) - on_black  # 255 - opacity, in each channel
    assert lost.max() == 255
    assert np.abs(lost - lost[..., :1]).max() <= 1
    assert differ(on_white, KINDS[name].pixels) <= KINDS[name].tolerance


def test_16_bit_value_that_means_transparent_gets_the_background():
    wide = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    content = saved(Image.fromarray(wide), transparency=3000)
    for background, level in (("white", 255), ("black", 0)):
        found = read_pixels(content, policy((8, 8), "pad", 1, background))[:, :, 0]
        expected = wide // 257
        expected[0, 3] = level
        assert np.array_equal(found, expected)


def test_large_16_bit_picture_is_converted_in_bands(monkeypatch):
    monkeypatch.setattr("src.data.pictures.BAND", 100)
    wide = np.random.default_rng(0).integers(0, 1 << 16, (50, 30), np.uint16)
    found = read_pixels(saved(Image.fromarray(wide)), policy((50, 30), "pad", 1))
    assert np.array_equal(found[:, :, 0], wide // 257)


@pytest.mark.parametrize(
    ("dtype", "found"),
    [(np.float32, "floating-point"), (np.int32, "integers of 32 bits")],
)
def test_pixels_of_unknown_scale_are_refused(dtype, found):
    content = saved(Image.fromarray(np.ones((4, 4), dtype)), "TIFF")
    with pytest.raises(PictureError, match=f"{found}.*, whose scale is unknown"):
        read_pixels(content, policy((4, 4)))


def triangle(count, parts, start, length):
    """Weights `[parts, count]` of an antialiased bilinear resize, by definition."""
    scale = length / parts
    support = max(scale, 1)
    centres = start + (np.arange(parts)[:, None] + 0.5) * scale
    far = np.abs(np.arange(count) + 0.5 - centres) / support
    weights = (1 - far).clip(0)
    return weights / weights.sum(1, keepdims=True)


def placed(pixels, height, width, fit, background):
    """The policy's resize by its definition, float `[height, width, 3]`."""
    down, across, _ = pixels.shape
    ratios = height / down, width / across
    rows, columns, top, left, tall, wide = height, width, 0, 0, down, across
    if fit == "crop":
        tall, wide = height / max(ratios), width / max(ratios)
        top, left = (down - tall) / 2, (across - wide) / 2
    if fit == "pad":
        rows, columns = (max(1, round(n * min(ratios))) for n in (down, across))
    resized = np.einsum(
        "yh,hwc,xw->yxc",
        triangle(down, rows, top, tall),
        pixels.astype(float),
        triangle(across, columns, left, wide),
    )
    full = np.full((height, width, 3), 255.0 if background == "white" else 0.0)
    above, before = (height - rows) // 2, (width - columns) // 2
    full[above : above + rows, before : before + columns] = resized
    return full


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("size", [(8, 8), (20, 9), (64, 48)])
@pytest.mark.parametrize("orientation", [1, 6, 7])
@pytest.mark.parametrize("before", [(37, 50), (50, 20), (5, 6)])
def test_picture_is_resized_to_the_policy_size(fit, size, orientation, before):
    pixels = noise(*before)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(pixels), exif=exif)
    found = read_pixels(content, policy(size, fit, 3, "black"))
    expected = placed(TURNED[orientation](pixels), *size, fit, "black")
    assert differ(found, expected) <= 2  # two passes, each rounded


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("before", [(1, 3000), (3000, 1), (1, 1)])
def test_extreme_sizes_are_taken(fit, before):
    content = saved(Image.fromarray(np.zeros(before, np.uint8)))
    assert read_pixels(content, policy((16, 16), fit)).shape == (16, 16, 3)


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("before", [(375, 500), (1201, 803)])
def test_jpeg_decoded_at_a_fraction_shows_the_same_picture(fit, orientation, before):
    """Against the full decode, saved as PNG: at most 10 of 255, 0.7 on average."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(photograph(*before)), "JPEG", quality=92, exif=exif)
    with Image.open(io.BytesIO(content)) as full:
        whole = saved(full.convert("RGB"), exif=exif)
    asked = policy((48, 64), fit)
    found, expected = read_pixels(content, asked), read_pixels(whole, asked)
    assert differ(found, expected) <= 10
    assert np.abs(found.astype(int) - expected).mean() <= 0.7


def test_photograph_with_a_second_one_inside_is_read():
    """MPO, which many phones write under the name .jpg."""
    first, second = Image.fromarray(scene()), Image.new("RGB", (WIDTH, HEIGHT))
    options = {"quality": 100, "subsampling": 0}
    content = saved(first, "MPO", save_all=True, append_images=[second], **options)
    assert differ(read_pixels(content, policy((HEIGHT, WIDTH))), scene()) <= 4


def test_large_photograph_with_a_second_one_inside_is_read():
    first, second = Image.fromarray(scene(400, 600)), Image.new("RGB", (600, 400))
    content = saved(first, "MPO", save_all=True, append_images=[second], quality=95)
    expected = read_pixels(saved(first), policy((32, 32)))
    assert differ(read_pixels(content, policy((32, 32))), expected) <= 3


def exif_entry(type, value):
    """EXIF whose only entry is an orientation of some type."""
    entry = struct.pack(">3HI4s", 1, 0x0112, type, 1, value)
    return b"Exif\0\0MM\0*\0\0\0\x08" + entry + bytes(4)


CORRUPT = {
    "no TIFF": b"Exif\0\0" + b"rubbish" * 5,
    "cut": b"Exif\0\0MM\0*\0\0\0\x08\0\x09",
    "far offset": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "orientation 9": exif_entry(3, b"\0\x09\0\0"),
    "orientation is text": exif_entry(2, b"a\0\0\0"),
    "orientation is a far fraction": exif_entry(5, b"\x7f\xff\0\0"),
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("case", CORRUPT)
def test_corrupt_exif_means_no_orientation(format, case):
    picture = Image.fromarray(scene())
    expected = read_pixels(saved(picture, format), policy((HEIGHT, WIDTH)))
    content = saved(picture, format, exif=CORRUPT[case])
    found = read_pixels(content, policy((HEIGHT, WIDTH)))
    assert np.array_equal(found, expected)


def test_noise_of_a_grey_jpeg_is_no_colour():
    grey = photograph(200, 300)[:, :, :1].repeat(3, 2)
    for quality in (50, 75, 95):
        content = saved(Image.fromarray(grey), "JPEG", quality=quality)
        assert not is_colour(read_pixels(content, policy((64, 64))))
    assert is_colour(read_pixels(saved(Image.fromarray(scene())), policy((9, 14))))
    assert not is_colour(np.array([[[9, 9, 9 + GREY_TOLERANCE]]], np.uint8))
    assert is_colour(np.array([[[10 + GREY_TOLERANCE, 9, 9]]], np.uint8))


def test_policy_survives_a_manifest():
    asked = policy((48, 64), "crop", 1, "black")
    record = json.loads(json.dumps(asked._asdict()))
    assert record == {
        "size": [48, 64],
        "fit": "crop",
        "channels": 1,
        "background": "black",
    }
    assert PicturePolicy.of(record) == asked


def test_heic_is_read_if_its_package_is_there():
    pillow_heif = pytest.importorskip("pillow_heif")
    heif = pillow_heif.from_pillow(Image.fromarray(scene(64, 64)))
    buffer = io.BytesIO()
    heif.save(buffer, quality=100)
    found = read_pixels(buffer.getvalue(), policy((64, 64)))
    assert differ(found, scene(64, 64)) <= 8


def test_heic_without_its_package_names_the_conversion(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    content = struct.pack(">I", 24) + b"ftypheic" + bytes(64)
    with pytest.raises(
        PictureError, match=r"^HEIC: install .*, or convert it to JPEG$"
    ):
        read_pixels(content, policy((8, 8)))


# Hostile files: refused by their headers, or decoded within bounds.


def png_header(width, height, form=(8, 0)):
    """A PNG that claims a size and ends where its pixels should begin.

    `form`: bits and colour type.
    """

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    size = struct.pack(">2I5B", width, height, *form, 0, 0, 0)
    content = chunk(b"IHDR", size) + chunk(b"IDAT", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def patched(content, *changes):
    """A file with some bytes replaced."""
    content = bytearray(content)
    for at, new in changes:
        content[at : at + len(new)] = new
    return bytes(content)


def jpeg_header(width, height):
    content = saved(Image.new("L", (8, 8)), "JPEG")
    at = content.index(b"\xff\xc0") + 5
    return patched(content, (at, struct.pack(">2H", height, width)))


def bmp_header(width, height):
    content = saved(Image.new("L", (8, 8)), "BMP")
    return patched(content, (18, struct.pack("<2i", width, height)))


def gif_header(width, height):
    content = saved(Image.new("L", (8, 8)), "GIF")
    at = content.index(b",") + 5
    size = struct.pack("<2H", width, height)
    return patched(content, (6, size), (at, size))


def tiff_header(width, height):
    content = saved(Image.new("L", (8, 8)), "TIFF")
    tags = struct.unpack_from("<I", content, 4)[0] + 2
    sizes = {256: width, 257: height}
    for at in range(tags, len(content) - 12, 12):
        tag = struct.unpack_from("<H", content, at)[0]
        if tag in sizes:
            entry = struct.pack("<2HII", tag, 4, 1, sizes.pop(tag))
            content = patched(content, (at, entry))
    assert not sizes
    return content


def webp_header(width, height):
    """An extended WebP, whose canvas is larger than its picture."""
    canvas = b"".join(struct.pack("<i", side - 1)[:3] for side in (width, height))
    inner = saved(Image.new("RGB", (8, 8)), "WEBP", lossless=True)[12:]
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas
    content = b"WEBP" + extended + inner
    return b"RIFF" + struct.pack("<I", len(content)) + content


def avif_header(width, height):
    content = saved(Image.new("RGB", (8, 8)), "AVIF")
    at = content.index(b"ispe") + 8
    return patched(content, (at, struct.pack(">2I", width, height)))


HEADERS = {
    "PNG": png_header,
    "JPEG": jpeg_header,
    "BMP": bmp_header,
    "GIF": gif_header,
    "TIFF": tiff_header,
    "WebP": webp_header,
    "AVIF": avif_header,
}


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("width", [12_001, 16_000, 60_000])
def test_header_that_claims_too_many_pixels_is_refused(kind, width):
    with pytest.raises(PictureError, match=r"above the limit|damaged"):
        read_pixels(HEADERS[kind](width, 10_000), policy((8, 8)))


COSTLY = {kind: HEADERS[kind] for kind in ("GIF", "TIFF", "AVIF")}
MODES = {"grey and alpha": (8, 4), "RGBA": (8, 6), "16 bits": (16, 0)}
COSTLY |= {f"PNG, {mode}": partial(png_header, form=MODES[mode]) for mode in MODES}


@pytest.mark.parametrize("kind", COSTLY)
def test_picture_that_costs_more_memory_has_a_lower_limit(kind):
    """Its decoder holds it several times, or it is converted."""
    content = COSTLY[kind](MAX_COSTLY_PIXELS // 8000 + 1, 8000)
    message = r"^8001 x 8000 pixels, above the limit of 64 million$"
    with pytest.raises(PictureError, match=message), open_picture(content):
        pass
    with open_picture(COSTLY[kind](9504, 6336)) as picture:  # 60 megapixels
        assert picture.size == (9504, 6336)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_picture_that_costs_little_memory_may_have_120_megapixels(kind):
    with open_picture(HEADERS[kind](12_000, 10_000)) as picture:
        assert picture.size == (12_000, 10_000)


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("size", [(0, 8), (8, 0), (5000, 4000)])
def test_header_with_a_false_size_is_refused_or_gives_pixels(kind, size):
    found = read_or_refuse(HEADERS[kind](*size))
    assert found is None or found.shape == (8, 8, 3)


@pytest.mark.parametrize("name", KINDS)
def test_damaged_file_is_refused_or_gives_pixels(name):
    """Each kind cut short, and with some bytes changed."""
    content = KINDS[name].content()
    rng = np.random.default_rng(0)
    damaged = [content[:end] for end in range(0, len(content), len(content) // 12)]
    for _ in range(40):
        at, new = int(rng.integers(len(content))), int(rng.integers(256))
        damaged.append(patched(content, (at, bytes([new]))))
    for each in damaged:
        found = read_or_refuse(each)
        assert found is None or found.shape == (8, 8, 3)


def read_or_refuse(content):
    """The pixels, or None if the file is refused."""
    try:
        return read_pixels(content, policy((8, 8)))
    except PictureError:
        return None


OTHERS = {
    "EPS": saved(Image.new("L", (8, 8)), "EPS"),
    "PPM": saved(Image.new("L", (8, 8)), "PPM"),
    "JPEG 2000": saved(Image.new("L", (8, 8)), "JPEG2000"),
    "text": b"This is a text.",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_are_named_by_their_first_bytes(kind):
    with pytest.raises(PictureError, match="a file that begins with b"):
        read_pixels(OTHERS[kind], policy((8, 8)))


def test_empty_file_and_missing_file_are_named(tmp_path):
    with pytest.raises(PictureError, match=r"^an empty file$"):
        read_pixels(b"", policy((8, 8)))
    with pytest.raises(PictureError, match=r"^no file$"):
        read_pixels(tmp_path / "none.png", policy((8, 8)))
    with pytest.raises(PictureError, match=r"^no file$"):
        read_pixels(tmp_path, policy((8, 8)))


def test_large_picture_is_opened_without_a_warning():
    with open_picture(png_header(MAX_PIXELS // 10_000, 10_000)) as picture:
        assert picture.size == (MAX_PIXELS // 10_000, 10_000)


def test_import_changes_nothing_in_pillow_or_warnings():
    source = (
        "import warnings, numpy\n"
        "from PIL import Image\n"
        "before, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)\n"
        "import src.data.pictures\n"
        "assert Image.MAX_IMAGE_PIXELS == before\n"
        "assert warnings.filters == filters\n"
    )
    subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=True)


def test_pillow_warns_of_nothing_in_any_thread(tmp_path):
    """Its warnings of large pictures and damaged EXIF would reach the user's stderr."""
    (tmp_path / "a.png").write_bytes(png_header(MAX_PIXELS // 10_000, 10_000))
    exif = saved(Image.new("L", (8, 8)), "JPEG", exif=CORRUPT["far offset"])
    (tmp_path / "b.jpg").write_bytes(exif)
    (tmp_path / "c.tif").write_bytes(KINDS["TIFF RGB"].content()[:-20])
    (tmp_path / "d.png").write_bytes(KINDS["PNG P with transparency"].content())
    source = (
        "import sys, threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from pathlib import Path\n"
        "from src.data.pictures import PictureError, PicturePolicy, read_pixels\n"
        "policy = PicturePolicy((8, 8), 'pad', 1, 'white')\n"
        "def read(path):\n"
        "    try: read_pixels(path, policy)\n"
        "    except PictureError: pass\n"
        "files = sorted(Path(sys.argv[1]).iterdir()) * 20\n"
        "list(ThreadPoolExecutor(4).map(read, files))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", source, str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    assert ended.stderr == b""


def test_module_imports_nothing_of_the_project():
    source = (
        "import sys; import src.data.pictures; "
        "print(*(name for name in sys.modules if name.startswith('src')))"
    )
    found = subprocess.check_output([sys.executable, "-c", source], cwd=ROOT, text=True)
    assert set(found.split()) <= {"src", "src.data", "src.data.pictures"}


def test_progressive_jpeg_of_too_many_scans_is_refused():
    """Each scan decodes the whole picture again: a small file could take minutes."""
    content = saved(Image.fromarray(scene()), "JPEG", progressive=True)
    start, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    last = content[start:end]
    for count in (1, 200):
        repeated = content[:end] + last * count + content[end:]
        if count == 1:
            assert read_pixels(repeated, policy((9, 14))).shape == (9, 14, 3)
        else:
            with pytest.raises(PictureError, match=r"a JPEG of 2\d\d scans, above"):
                read_pixels(repeated, policy((9, 14)))


def test_messages_of_pillow_do_not_reach_the_terminal():
    """Of a TIFF with too many samples. In a process: pytest shows no messages."""
    content = saved(Image.fromarray(scene()), "TIFF")
    samples = struct.pack("<HHIHH", 277, 3, 1, 3, 0)  # the tag SamplesPerPixel
    assert samples in content
    wrong = content.replace(samples, struct.pack("<HHIHH", 277, 3, 1, 9, 0))
    program = f"""
from src.data.pictures import PictureError, PicturePolicy, read_pixels
try:
    read_pixels({wrong!r}, PicturePolicy((9, 14), "pad", 3, "white"))
except PictureError:
    print("refused")
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("refused\n", "")
