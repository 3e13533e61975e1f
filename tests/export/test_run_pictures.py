"""The shipped program on picture files."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.pictures import PicturePolicy, read_pixels
from src.data.prepared import PictureRecord
from src.export.demo_page import demo_page
from src.export.fresh_process import unpack_files
from stages.predict import main
from tests.helpers.examples import patterned
from tests.helpers.formats import convert_all, probabilities, untrained
from tests.helpers.imports import ROOT
from tests.helpers.pictures import KINDS, scene, suffix

NAMES = ["low", "middle", "high"]
POLICY = PicturePolicy((12, 8), "crop", 3, "black")
PROGRAM = "numpy_predictor.py"


def export(folder, policy):
    trained = untrained("mlp", (12, 8, 3))
    made = convert_all(
        ["numpy"],
        trained,
        patterned(9, 1, (12, 8, 3)).images,
        pictures=policy and PictureRecord.model_validate(policy._asdict()),
    )
    unpack_files(made.files, folder)
    return folder, trained


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """An export of a network of picture files."""
    return export(tmp_path_factory.mktemp("export"), POLICY)


@pytest.fixture(scope="module")
def without_policy(tmp_path_factory):
    """An export of a network of arrays."""
    return export(tmp_path_factory.mktemp("arrays"), None)[0]


def run(folder, *arguments, code=None):
    """Runs run.py; with `code`, after it in the same process."""
    start = ["-c", code] if code else ["run.py"]
    return subprocess.run(
        [sys.executable, "-I", *start, PROGRAM, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def one_line_of(ended, code, message):
    assert ended.returncode == code, ended.stderr
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""


def test_module_of_pictures_is_shipped_byte_for_byte(shipped):
    source = ROOT / "src/data/pictures.py"
    assert (shipped[0] / "pictures.py").read_bytes() == source.read_bytes()


def test_program_is_one_file_in_which_no_name_is_defined_twice(shipped):
    source = (shipped[0] / "run.py").read_text()
    assert "from src" not in source
    tree = ast.parse(source)
    assert ast.get_docstring(tree).startswith("Runs an exported network")
    found = [node.name for node in tree.body if hasattr(node, "name")]
    assert {"load", "latency", "read_all", "main"} <= set(found)
    assert len(found) == len(set(found))


def test_pictures_of_every_kind_are_fitted_by_the_policy(shipped, tmp_path):
    folder, trained = shipped
    album = tmp_path / "album"
    (album / "inner").mkdir(parents=True)
    (album / "notes.txt").write_text("no picture")
    for index, kind in enumerate(KINDS.values()):
        place = album / "inner" if index % 2 else album
        (place / f"{index:02}{suffix(kind)}").write_bytes(
            kind.content(6 if kind.turns else 1)
        )
    ended = run(folder, album, "--output", tmp_path / "found.npz")
    assert (ended.returncode, ended.stderr) == (0, "")
    found = np.load(tmp_path / "found.npz")
    files = sorted(path for path in album.rglob("*.*") if path.suffix != ".txt")
    assert found["pictures"].tolist() == [str(path) for path in files]
    images = np.stack([read_pixels(path, POLICY) for path in files])
    expected = probabilities(trained, images)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)


def test_many_pictures_are_answered_in_order(shipped, tmp_path):
    """They are read in parts of 64; each prints the line of its picture."""
    for index in range(70):
        Image.fromarray(scene(40, 30 + index % 3)).save(tmp_path / f"{index:02}.png")
    (tmp_path / "broken.png").write_bytes(b"")
    ended = run(shipped[0], tmp_path)
    lines = [line.split("\t") for line in ended.stdout.splitlines()]
    names = [f"{tmp_path}/{index:02}.png" for index in range(70)]
    assert [line[0] for line in lines] == names
    assert lines[66][1:] == lines[0][1:]
    assert ended.returncode == 3
    assert "broken.png" in ended.stderr


def test_line_of_a_picture_has_name_class_and_probability(shipped, tmp_path):
    folder, trained = shipped
    path = tmp_path / "photo.jpg"
    Image.fromarray(scene(40, 30)).save(path)
    (row,) = probabilities(trained, read_pixels(path, POLICY)[None])
    expected = f"{path}\t{NAMES[row.argmax()]}\t{row.max():.4f}\n"
    assert run(folder, path).stdout == expected


def test_broken_pictures_cost_no_other_answer(shipped, tmp_path):
    Image.fromarray(scene()).save(tmp_path / "a.png")
    for index in range(12):
        (tmp_path / f"b{index:02}.png").write_bytes(b"no picture")
    ended = run(shipped[0], tmp_path)
    assert ended.returncode == 3
    assert ended.stdout.startswith(f"{tmp_path}/a.png\t")
    lines = ended.stderr.splitlines()
    assert len(lines) == 11
    assert lines[0].startswith(f"run.py: {tmp_path}/b00.png: expected a .npy, .npz,")
    assert lines[-1] == "run.py: 2 more files cannot be read"


def test_folder_without_pictures_is_named(shipped, tmp_path):
    message = f"{tmp_path}: expected PNG, JPEG"
    one_line_of(run(shipped[0], tmp_path), 3, message)


def test_without_a_policy_a_picture_must_have_the_exact_shape(without_policy, tmp_path):
    Image.fromarray(scene(12, 8)).save(tmp_path / "exact.png")
    ended = run(without_policy, tmp_path / "exact.png")
    assert (ended.returncode, ended.stderr) == (0, "")
    Image.fromarray(scene(12, 9)).save(tmp_path / "wide.png")
    Image.fromarray(scene(12, 8)[:, :, 0]).save(tmp_path / "grey.png")
    for name, shape in (("wide", "[12, 9, 3]"), ("grey", "[12, 8, 1]")):
        message = f"{shape} instead of [12, 8, 3]: resize it, or use "
        one_line_of(run(without_policy, tmp_path / f"{name}.png"), 3, message)


def test_missing_pillow_is_named(shipped, tmp_path):
    Image.fromarray(scene()).save(tmp_path / "a.png")
    code = (
        "import runpy, sys\n"
        "sys.modules['PIL'] = None\n"
        "sys.argv[0] = 'run.py'\n"
        "runpy.run_path('run.py', run_name='__main__')\n"
    )
    ended = run(shipped[0], tmp_path / "a.png", code=code)
    one_line_of(ended, 2, f"{PROGRAM}: needs pillow, which is not installed")
    np.save(tmp_path / "a.npy", patterned(1, 1, (12, 8, 3)).images)
    assert run(shipped[0], tmp_path / "a.npy", code=code).returncode == 0


def test_missing_module_of_pictures_is_named(tmp_path):
    folder, _ = export(tmp_path / "device", POLICY)
    (folder / "pictures.py").unlink()
    Image.fromarray(scene()).save(tmp_path / "a.png")
    message = "pictures.py: expected this file, found none: copy it here"
    one_line_of(run(folder, tmp_path / "a.png"), 3, message)


def test_predict_answers_as_run_does(shipped, tmp_path, monkeypatch, capsys):
    """On a folder with every kind, without a note: nothing was guessed."""
    folder, trained = shipped
    for name, kind in KINDS.items():
        content = kind.content(8 if kind.turns else 1)
        (tmp_path / f"{name}{suffix(kind)}").write_bytes(content)
    model = f"--model={folder / PROGRAM}"
    monkeypatch.setattr("sys.argv", ["predict", str(tmp_path), model, "--json"])
    main()
    captured = capsys.readouterr()
    answers = json.loads(captured.out)
    assert captured.err == ""
    assert len(answers) == len(KINDS)
    for each in answers:
        pixels = read_pixels(Path(each["picture"]), POLICY)
        (row,) = probabilities(trained, pixels[None])
        best = each["classes"][0]
        assert best["class"] == NAMES[row.argmax()]
        assert best["probability"] == pytest.approx(row.max(), abs=2e-6)
        assert each["changes"] == []


def test_demo_page_has_the_policy_of_the_manifest(shipped):
    folder, trained = shipped
    manifest = json.loads((folder / "manifest.json").read_text())
    test = patterned(9, 1, (12, 8, 3))
    with np.load(folder / "constants.npz") as constants:
        made = demo_page(
            trained, manifest, constants, test, probabilities(trained, test.images)
        )
    page = made.content.decode()
    (text,) = re.findall(
        r'<script id="network" type="application/json">(.*?)</scr', page
    )
    assert PicturePolicy.of(json.loads(text)["pictures"]) == POLICY


def test_manifest_has_the_policy_of_picture_files_only(shipped, without_policy):
    assert '"fit":"crop"' in (shipped[0] / "manifest.json").read_text().replace(" ", "")
    assert '"pictures"' not in (without_policy / "manifest.json").read_text()
