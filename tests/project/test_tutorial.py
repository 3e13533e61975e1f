"""Runs every command of docs/tutorial.md in a clone of the project."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.imports import ROOT

PAGE = (ROOT / "docs/tutorial.md").read_text()
CLASSES = ("cat", "dog")
ORIENTATION = 0x0112  # of EXIF


def draw_photos(folder: Path) -> None:
    """Draws 30 noisy striped pictures per class, of many sizes, kinds and modes.

    Beside them are files that a desktop leaves there.
    """
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        (folder / name / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        for number in range(30):
            height, width = rng.integers(60, 100, 2)
            stripes = np.arange(height if name == "cat" else width) // 8 % 2 * 150
            pixels = rng.integers(0, 60, (height, width, 3))
            pixels += stripes.reshape((-1, 1, 1) if name == "cat" else (1, -1, 1))
            picture = Image.fromarray(pixels.astype(np.uint8))
            save_photo(picture, folder / name / f"IMG_{number:04}", number)


def save_photo(picture: Image.Image, path: Path, number: int) -> None:
    """Saves every second picture as another kind than an upright JPEG."""
    match number % 10:
        case 1:  # as a phone held sideways stores it
            exif = Image.Exif()
            exif[ORIENTATION] = 6
            turned = picture.transpose(Image.Transpose.ROTATE_90)
            turned.save(path.with_suffix(".JPG"), exif=exif)
        case 3:
            picture.convert("RGBA").save(path.with_suffix(".png"))
        case 5:
            picture.save(path.with_suffix(".webp"))
        case 7:
            picture.convert("P").save(path.with_suffix(".gif"))
        case 9:
            picture.convert("L").save(path.with_suffix(".tiff"))
        case _:
            picture.save(path.with_suffix(".jpg"))


def tutorial_script() -> str:
    """The shell blocks of the page: with this commit and this environment."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    python = Path(sys.executable).parent
    activate = f"mkdir -p .venv/bin; echo 'PATH={python}:$PATH' > .venv/bin/activate"
    script = "".join(["set -euo pipefail\n", *blocks])
    for command, local in (
        ("git clone URL-OF-THIS-REPOSITORY fourbeat", f"git clone -q {ROOT} fourbeat"),
        ("make setup", activate),
    ):
        assert script.count(f"{command}\n") == 1
        script = script.replace(f"{command}\n", f"{local}\n")
    return script


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_commands_of_the_tutorial_lead_from_photos_to_a_device(tmp_path):
    draw_photos(tmp_path / "photos")
    people = {"GIT_AUTHOR_NAME": "reader", "GIT_AUTHOR_EMAIL": "reader@example.org"}
    people |= {name.replace("AUTHOR", "COMMITTER"): who for name, who in people.items()}
    result = subprocess.run(
        ["bash", "-c", tutorial_script()],
        cwd=tmp_path,
        env={**os.environ, **people},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    project = tmp_path / "fourbeat"
    assert (project / "models/export/demo.html").exists()
    assert (project / "metrics/report.html").exists()
    answers = re.findall(r"^\.\./photos/cat/IMG_\d+\.\w+: (\w+) ", result.stdout, re.M)
    assert answers == ["cat"] * 30
    assert re.search(r"^(cat|dog)\t0\.\d+$", result.stdout, re.MULTILINE)
