"""`python -m stages.predict` on all kinds of pictures."""

import io
import json
import os
import subprocess
import sys
from contextlib import chdir

import numpy as np
import pytest
from PIL import Image, ImageOps

from src import paths
from src.data.pictures import PictureError, PicturePolicy, read_pixels
from src.errors import DataError, ParameterError
from src.export.classify import (
    classify_pictures,
    find_pictures,
    parse_arguments,
    read_picture,
)
from src.export.fit_picture import resized, to_input
from src.export.formats import write_files
from src.export.load import InputEntry, fastest_file, load_exported
from stages.predict import main
from tests.helpers.examples import patterned
from tests.helpers.files import committed, write_record
from tests.helpers.formats import all_formats, convert_all, probabilities, untrained
from tests.helpers.imports import ROOT
from tests.helpers.pictures import CASES, KINDS, TURNED
from tests.helpers.running import run_stage

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)
SHAPE = 8, 8, 1
NAMES = ["low", "middle", "high"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with an exported network, and its probabilities for a few pictures."""
    folder = tmp_path_factory.mktemp("project")
    trained, export = all_formats()
    examples = patterned(4, seed=4)
    with chdir(folder):
        committed(write_files, export.files)
    (folder / "pictures").mkdir()
    for index, image in enumerate(examples.images):
        Image.fromarray(image[:, :, 0]).save(folder / f"pictures/{index}.png")
    return folder, probabilities(trained, examples.images)


def predict(folder, *arguments, content=None):
    """Runs the command in a process."""
    return subprocess.run(
        [sys.executable, "-m", "stages.predict", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        input=content,
        timeout=300,
        check=False,
    )


def ended_with(ended, code):
    """Checks the exit code and the empty stdout; returns the one line on stderr."""
    assert ended.returncode == code, ended.stderr.decode()
    assert ended.stdout == b""
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith("predict: ")
    return line


@pytest.mark.parametrize(
    "file",
    [
        "model.stablehlo",
        "saved_model",
        "model.tflite",
        "model.onnx",
        "numpy_predictor.py",
    ],
)
def test_every_format_gives_the_probabilities_of_the_network(
    project, monkeypatch, capsys, file
):
    folder, expected = project
    monkeypatch.chdir(folder)
    asked = ["pictures", "--json", "--model", f"models/export/{file}"]
    monkeypatch.setattr("sys.argv", ["predict", *asked])
    main()
    answers = json.loads(capsys.readouterr().out)
    assert [each["picture"] for each in answers] == [
        f"pictures/{i}.png" for i in range(4)
    ]
    for each, row in zip(answers, expected, strict=True):
        order = np.argsort(-row)[:2]  # top_k of its record
        assert [best["class"] for best in each["classes"]] == [NAMES[i] for i in order]
        found = [best["probability"] for best in each["classes"]]
        assert found == pytest.approx(row[order].tolist(), abs=1e-5)
        assert each["changes"] == []


def test_default_output_has_one_line_per_picture(project):
    folder, expected = project
    ended = predict(folder, "pictures/1.png", "pictures/0.png")
    lines = ended.stdout.decode().splitlines()
    for line, index in zip(lines, (1, 0), strict=True):
        name, row = NAMES[expected[index].argmax()], expected[index]
        assert line.startswith(f"pictures/{index}.png: {name} {row.max():.1%}, ")
    assert ended.stderr == b""


def test_picture_comes_from_standard_input(project):
    folder, expected = project
    content = (folder / "pictures/2.png").read_bytes()
    (answer,) = json.loads(predict(folder, "-", "--json", content=content).stdout)
    assert answer["picture"] == "standard input"
    assert answer["classes"][0]["class"] == NAMES[expected[2].argmax()]


def test_changes_to_a_picture_are_reported(project, tmp_path):
    folder, _ = project
    Image.new("RGB", (40, 20), "white").save(tmp_path / "wide.jpg")
    ended = predict(folder, str(tmp_path / "wide.jpg"))
    assert ended.returncode == 0
    (warning,) = ended.stderr.decode().splitlines()
    assert "inverted" in warning
    assert "resized from 40 x 20 to 8 x 8 pixels" in warning


NOT_PICTURES = {
    "no file": ("none.png", None, "found no file"),
    "a text": ("text.png", b"This is a text.", "begins with b'This is '"),
    "an empty file": ("empty.png", b"", "found an empty file"),
    "a picture cut short": ("short.png", "cut", "found "),
    "a folder without pictures": ("folder/text.txt", b"x", "found none"),
}


@pytest.mark.parametrize("case", NOT_PICTURES)
def test_file_that_is_not_a_picture_gives_one_line(project, tmp_path, case):
    name, content, message = NOT_PICTURES[case]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if content == "cut":
        content = (project[0] / "pictures/0.png").read_bytes()[:60]
    if content is not None:
        path.write_bytes(content)
    asked = path.parent if "folder" in name else path
    line = ended_with(predict(project[0], str(asked)), 3)
    assert str(asked) in line
    assert message in line


def test_empty_standard_input_ends_with_one_line(project):
    line = ended_with(predict(project[0], "-", content=b""), 3)
    assert "standard input: expected a PNG, JPEG" in line
    assert "found an empty file" in line


@pytest.mark.slow
def test_picture_that_would_fill_the_memory_is_refused(project, tmp_path):
    huge = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(huge, "PNG")
    line = ended_with(predict(project[0], "-", content=huge.getvalue()), 3)
    assert "picture, found pixels above the limit of 120 million" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: IMAGE"),
        (["x.png", "--modle", "y"], "unrecognized arguments: --modle"),
        (["x.png", "--model"], "--model: expected one argument"),
    ],
)
def test_wrong_arguments_end_with_one_line(project, arguments, message):
    assert message in ended_with(predict(project[0], *arguments), 2)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("models/export/run.py", "expected one of the files in"),
        ("models/export/none.onnx", "expected one of the files in"),
        ("elsewhere/model.onnx", "elsewhere/model.onnx: expected a file of an export"),
    ],
)
def test_wrong_model_file_gives_one_line(project, model, message):
    line = ended_with(predict(project[0], "pictures/0.png", "--model", model), 3)
    assert message in line


@pytest.mark.parametrize(
    "name",
    ["model.onnx", "saved_model/saved_model.pb", "constants.npz", "manifest.json"],
)
def test_changed_export_is_not_run(project, name):
    folder, _ = project
    path = folder / "models/export" / name
    content = path.read_bytes()
    files = {
        "saved_model/saved_model.pb": "saved_model",
        "constants.npz": "numpy_predictor.py",
    }
    file = files.get(name, "model.onnx")
    path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    try:
        asked = "pictures/0.png", "--model", f"models/export/{file}"
        assert "Recreate it: dvc repro export" in ended_with(predict(folder, *asked), 3)
    finally:
        path.write_bytes(content)


def test_missing_runtime_is_named(project, monkeypatch):
    monkeypatch.chdir(project[0])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ParameterError, match="expected the package onnxruntime"):
        load_exported(paths.EXPORT / "model.onnx")


def test_missing_export_names_the_command_that_creates_it(prepared):
    ended = run_stage("predict", prepared, ["x.png"])
    assert ended.returncode == 3
    assert "models/export/manifest.json" in ended.stderr
    assert "dvc repro export" in ended.stderr


def test_fastest_exported_format_is_the_default(prepared):
    committed(
        write_files,
        convert_all(["numpy"], untrained("mlp"), patterned(9, 1).images).files,
    )
    assert load_exported(None).classify(patterned(2, 1).images).shape == (2, 3)


def test_standard_input_is_read_once(project):
    assert "expected - at most once, got it 2 times" in ended_with(
        predict(project[0], "-", "-"), 2
    )


def test_repeated_picture_is_classified_twice(project):
    asked = "pictures/0.png", "pictures/0.png", "--json"
    answers = json.loads(predict(project[0], *asked).stdout)
    assert len(answers) == 2
    assert answers[0] == answers[1]


def test_folder_means_its_pictures_only(project, tmp_path):
    folder = tmp_path / "album"
    (folder / "inner").mkdir(parents=True)
    (folder / "folder.png").mkdir()
    image = (project[0] / "pictures/0.png").read_bytes()
    for name in ("a.png", "inner/b.PNG", "._a.png", ".hidden.jpg", "notes.txt"):
        (folder / name).write_bytes(image)
    answers = json.loads(predict(project[0], str(folder), "--json").stdout)
    names = [each["picture"].removeprefix(f"{folder}/") for each in answers]
    assert names == ["a.png", "inner/b.PNG"]


def test_name_of_a_picture_cannot_move_the_cursor(project, tmp_path):
    path = tmp_path / "red\x1b[31m\nline.png"
    Image.new("L", (20, 20)).save(path)
    ended = predict(project[0], str(path))
    assert len(ended.stdout.splitlines()) == len(ended.stderr.splitlines()) == 1
    assert b"\x1b" not in ended.stdout + ended.stderr


def test_name_that_the_terminal_cannot_write_is_escaped(project, tmp_path):
    path = tmp_path / "\N{SNOWMAN}.png"
    Image.new("L", (8, 8)).save(path)
    ended = subprocess.run(
        [sys.executable, "-m", "stages.predict", str(path)],
        cwd=project[0],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert b"\\u2603.png" in ended.stdout


def test_large_photograph_is_accepted(project, tmp_path):
    path = tmp_path / "photo.jpg"
    pixels = np.zeros((4000, 6000), np.uint8)
    pixels[1000:3000, 2500:3500] = 200
    Image.fromarray(pixels).save(path)
    ended = predict(project[0], str(path))
    assert ended.returncode == 0, ended.stderr.decode()
    assert b"resized from 6000 x 4000 to 8 x 8 pixels" in ended.stderr


WRONG_MANIFESTS = {
    "no room for a pixel": ("input", {"shape": ["batch", 0, 8, 1], "background": 0}),
    "room for billions": ("input", {"shape": ["b", 60000, 60000, 3], "background": 0}),
    "a policy for another size": (
        "input",
        {
            "shape": ["batch", 8, 8, 1],
            "background": 0,
            "pictures": PicturePolicy((8, 9), "pad", 1, "white")._asdict(),
        },
    ),
    "two channels": ("input", {"shape": ["batch", 8, 8, 2], "background": 0}),
    "too few names": ("class_names", ["low"]),
    "no best class": ("model", {"parameters": {"top_k": -1}}),
}


@pytest.mark.parametrize("case", WRONG_MANIFESTS)
def test_invalid_manifest_is_refused(project, monkeypatch, case):
    monkeypatch.chdir(project[0])
    path = paths.EXPORT / "manifest.json"
    before = path.read_bytes()
    key, value = WRONG_MANIFESTS[case]
    content = json.loads(before)
    del content["sha256_of_the_rest"]
    write_record(path, {**content, key: value})
    try:
        with pytest.raises(
            DataError, match=r"manifest\.json: .*expected a valid value"
        ):
            load_exported(None)
    finally:
        path.write_bytes(before)


def test_default_format_has_an_installed_runtime(project, monkeypatch):
    monkeypatch.chdir(project[0])
    for package in ("onnxruntime", "ai_edge_litert"):
        monkeypatch.setitem(sys.modules, package, None)
    manifest = load_exported(None).manifest
    assert fastest_file(manifest) == "numpy_predictor.py"


def test_options_are_read():
    asked = parse_arguments(["a.png", "b.png", "--json", "--model", "m.onnx"])
    assert (asked.pictures, str(asked.model), asked.json) == (
        ["a.png", "b.png"],
        "m.onnx",
        True,
    )


# Conversion of a picture to the input of a network.


def grey(pixels):
    return Image.fromarray(np.asarray(pixels, np.uint8))


def test_matching_picture_is_unchanged():
    image = patterned(1, seed=1).images[0]
    found = to_input(grey(image[:, :, 0]), SHAPE, background=20)
    assert np.array_equal(found.image, image)
    assert found.changes == []


def test_colours_of_equal_parts_are_grey():
    image = patterned(1, seed=1).images[0]
    found = to_input(grey(image.repeat(3, 2)), SHAPE, background=20)
    assert np.array_equal(found.image, image)
    assert found.changes == []


def test_colours_become_grey_by_their_brightness():
    picture = Image.new("RGB", (8, 8), (200, 100, 50))
    found = to_input(picture, SHAPE, background=128)
    expected = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)  # ITU-R BT.601
    assert abs(int(found.image[0, 0, 0]) - expected) <= 1
    assert found.changes == ["converted to grey"]


def test_grey_picture_becomes_three_channels_for_a_colour_network():
    image = patterned(1, seed=1).images[0]
    found = to_input(grey(image[:, :, 0]), (8, 8, 3), background=20)
    assert np.array_equal(found.image, image.repeat(3, 2))
    assert found.changes == []


@pytest.mark.parametrize(("background", "edge"), [(0, 255), (250, 5)])
def test_picture_on_the_opposite_background_is_inverted(background, edge):
    pixels = np.full((8, 8), edge)
    pixels[3:5, 3:5] = 100
    found = to_input(grey(pixels), SHAPE, background)
    assert np.array_equal(found.image[:, :, 0], 255 - pixels)
    assert "inverted" in found.changes[0]


@pytest.mark.parametrize(("background", "edge"), [(0, 120), (128, 255), (0, 10)])
def test_ambiguous_polarity_is_left_unchanged(background, edge):
    found = to_input(grey(np.full((8, 8), edge)), SHAPE, background)
    assert (found.image == edge).all()
    assert found.changes == []


def test_photograph_is_never_inverted_for_a_colour_network():
    found = to_input(Image.new("RGB", (8, 8), "white"), (8, 8, 3), background=10)
    assert (found.image == 255).all()


def test_larger_picture_is_averaged_not_sampled():
    checks = np.indices((80, 80)).sum(0) % 2 * 255
    found = to_input(grey(checks), SHAPE, background=128)
    assert np.abs(found.image.astype(int) - 127).max() <= 4


@pytest.mark.parametrize("size", [(80, 80), (56, 56), (7, 7), (29, 31)])
def test_size_is_changed_by_the_mean_of_each_area(size):
    """Compared with the means of an enlarged copy of the picture."""
    height, width = size
    pixels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    large = pixels.repeat(28, 0).repeat(28, 1).astype(np.float64)
    expected = large.reshape(28, height, 28, width).mean((1, 3))
    found = np.asarray(resized(grey(pixels), 28, 28))
    assert np.abs(found - expected).max() <= 0.5 + 1e-3


def test_aspect_ratio_is_kept_and_bars_have_the_border_colour():
    pixels = np.full((16, 32), 30)
    pixels[:, 12:20] = 230  # a bar: full height, a quarter of the width
    found = to_input(grey(pixels), SHAPE, background=30).image[:, :, 0]
    edge = round(
        float(np.concatenate([pixels[0], pixels[-1], *pixels[:, [0, -1]].T]).mean())
    )
    assert (found[:2] == edge).all()
    assert (found[6:] == edge).all()
    assert (found[3:5, 3:5] > 200).all()
    assert (found[3:5, :2] < 60).all()


@pytest.mark.parametrize(("ink", "paper"), [("black", 255), ("white", 0)])
def test_transparent_background_contrasts_with_the_drawing(ink, paper):
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    picture.paste(Image.new("RGBA", (2, 2), ink), (3, 3))
    found = to_input(picture, SHAPE, background=128)
    assert found.image[0, 0, 0] == paper
    assert found.image[3, 3, 0] == 255 - paper
    assert found.changes[0].startswith("transparent areas filled with ")


def test_opaque_picture_with_alpha_is_unchanged():
    image = patterned(1, seed=1).images[0, :, :, 0]
    picture = grey(image).convert("RGBA")
    found = to_input(picture, SHAPE, background=20)
    assert np.array_equal(found.image[:, :, 0], image)
    assert found.changes == []


def test_bars_of_a_coloured_picture_have_its_border_colour():
    found = to_input(Image.new("RGB", (16, 8), (0, 0, 255)), (8, 8, 3), background=0)
    assert (found.image == (0, 0, 255)).all()


def test_8_bit_values_stored_in_16_bits_are_unchanged():
    image = patterned(1, seed=1).images[0, :, :, 0]
    found = to_input(Image.fromarray(image.astype(np.uint16)), SHAPE, background=20)
    assert np.array_equal(found.image[:, :, 0], image)


def test_16_bit_picture_becomes_8_bit():
    pixels = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    found = to_input(Image.fromarray(pixels), SHAPE, background=128)
    assert np.array_equal(found.image[:, :, 0], pixels // 257)
    assert found.changes == ["converted from 16 to 8 bits"]


def test_picture_is_rotated_by_its_exif_orientation():
    image = patterned(1, seed=1).images[0, :, :, 0]
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by a quarter turn clockwise
    file = io.BytesIO()
    grey(image).save(file, "PNG", exif=exif)
    with Image.open(file) as picture:
        found = to_input(picture, SHAPE, background=20)
    assert np.array_equal(found.image[:, :, 0], np.rot90(image, -1))
    assert found.changes == ["rotated by its EXIF orientation"]


def test_margin_absent_from_training_images_gives_a_warning():
    pixels = np.zeros((100, 100), np.uint8)
    pixels[40:60, 45:55] = 255
    advice = "the object is small: crop a square around it"
    assert advice in to_input(grey(pixels), SHAPE, background=0).changes
    cut = pixels[38:62, 38:62]
    assert advice not in to_input(grey(cut), SHAPE, background=0).changes


def test_shaded_paper_is_not_inverted_and_gives_a_warning():
    pixels = np.full((100, 100), 150, np.uint8)
    pixels[5:95, 40:60] = 20
    found = to_input(grey(pixels), SHAPE, background=0)
    assert "not inverted: its border is neither dark nor bright" in found.changes
    found = to_input(grey(pixels), SHAPE, background=128)
    assert len(found.changes) == 1


def test_palette_and_one_bit_pictures_are_read(tmp_path):
    image = patterned(1, seed=1).images[0, :, :, 0]
    palette = to_input(grey(image).convert("P"), SHAPE, background=20)
    assert np.abs(palette.image[:, :, 0].astype(int) - image).max() <= 1
    bits = to_input(grey(image).convert("1", dither=0), SHAPE, background=20)
    assert np.array_equal(bits.image[:, :, 0], np.where(image > 127, 255, 0))


def test_extreme_aspect_ratio_keeps_at_least_one_pixel():
    found = to_input(Image.new("L", (4000, 1)), SHAPE, background=0)
    assert found.image.shape == SHAPE


def run_here(monkeypatch, capsys, folder, *arguments):
    """Runs the command in this process; returns its answers, notes and error."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["predict", *map(str, arguments), "--json"])
    error = None
    try:
        main()
    except DataError as raised:
        error = str(raised)
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err.splitlines(), error


def test_file_that_cannot_be_read_costs_no_other_answer(
    project, tmp_path, monkeypatch, capsys
):
    folder, expected = project
    for index in range(4):
        image = (folder / f"pictures/{index}.png").read_bytes()
        (tmp_path / f"{index}.png").write_bytes(image if index != 1 else image[:60])
    answers, notes, error = run_here(monkeypatch, capsys, folder, tmp_path)
    best = [NAMES[row.argmax()] for row in np.delete(expected, 1, 0)]
    assert [each["classes"][0]["class"] for each in answers] == best
    assert error.startswith(f"{tmp_path}/1.png: expected a PNG, JPEG")
    assert notes == []


def test_process_with_a_wrong_file_answers_the_rest_and_ends_with_code_three(project):
    ended = predict(project[0], "pictures/0.png", "none.png", "pictures/1.png")
    assert ended.returncode == 3
    assert len(ended.stdout.splitlines()) == 2
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith("predict: none.png: expected a PNG")
    assert line.endswith("found no file. Name another.")


def test_first_ten_wrong_files_are_named_and_the_others_counted(
    project, tmp_path, monkeypatch, capsys
):
    for index in range(13):
        (tmp_path / f"{index:02}.png").write_bytes(b"no picture")
    answers, notes, error = run_here(monkeypatch, capsys, project[0], tmp_path)
    assert answers == []
    assert [line.split(": ")[1] for line in notes] == [
        f"{tmp_path}/{index:02}.png" for index in range(10)
    ]
    assert error == "3 more files cannot be read. Name others."


def test_hidden_and_system_files_are_passed_over_and_counted(
    project, tmp_path, monkeypatch, capsys
):
    image = (project[0] / "pictures/0.png").read_bytes()
    others = [
        *("._a.png", ".hidden.jpg", "notes.txt", "Thumbs.db", "desktop.ini"),
        *("__MACOSX/a.png", "@eaDir/a.jpg", ".cache/a.png"),
    ]
    for name in ("a.png", "b.JFIF", *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(image)
    (tmp_path / "linked").symlink_to(project[0] / "pictures")
    answers, notes, error = run_here(monkeypatch, capsys, project[0], tmp_path)
    assert [each["picture"] for each in answers] == [
        f"{tmp_path}/a.png",
        f"{tmp_path}/b.JFIF",
    ]
    assert error is None
    assert notes == [
        "predict: files passed over, because hidden, links or no pictures by name: 9"
    ]
    listed = sorted(path for path in tmp_path.iterdir() if path.is_file())
    answers, notes, _ = run_here(monkeypatch, capsys, project[0], *listed)
    assert len(answers) == 2
    assert notes[0].endswith(": 5")


def test_many_pictures_are_answered_in_order(project, tmp_path, monkeypatch, capsys):
    """In parts: the answers are those of each picture alone."""
    names = [f"{tmp_path}/{number:03}.png" for number in range(150)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(
            (project[0] / f"pictures/{number % 4}.png").read_bytes()
        )
    (tmp_path / "broken.png").write_bytes(b"")
    answers, _, error = run_here(monkeypatch, capsys, project[0], tmp_path)
    assert [each["picture"] for each in answers] == names
    assert answers[4]["classes"] == answers[148]["classes"]
    assert "broken.png" in error


def test_single_file_is_recognised_by_its_content(
    project, tmp_path, monkeypatch, capsys
):
    for name, kind in KINDS.items():
        path = tmp_path / ".no suffix"
        path.write_bytes(kind.content())
        answers, _, error = run_here(monkeypatch, capsys, project[0], path)
        assert error is None, name
        assert len(answers) == 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "orientation"), CASES)
def test_predict_sees_the_bytes_that_prepare_would_make(name, orientation, channels):
    content = KINDS[name].content(orientation)
    policy = PicturePolicy((16, 12), "pad", channels, "black")
    manifest = InputEntry(
        shape=("batch", 16, 12, channels), background=0, pictures=policy._asdict()
    )
    found = read_picture(content, manifest)
    assert np.array_equal(found.image, read_pixels(content, policy))
    assert found.changes == []


@pytest.mark.parametrize(("name", "orientation"), CASES)
def test_network_without_a_policy_takes_every_kind(name, orientation):
    kind = KINDS[name]
    expected = TURNED[orientation](kind.pixels)
    manifest = InputEntry(shape=("batch", *expected.shape), background=128)
    found = read_picture(kind.content(orientation), manifest)
    if "transparent" not in str(found.changes):  # filled with a contrast instead
        difference = np.abs(found.image.astype(int) - expected)
        assert difference.max() <= kind.tolerance
    turned = "rotated by its EXIF orientation" in found.changes
    assert turned == (orientation != 1)


def test_float_picture_is_refused_without_a_policy_too(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.ones((8, 8), np.float32)).save(buffer, "TIFF")
    manifest = InputEntry(shape=("batch", *SHAPE), background=0)
    with pytest.raises(PictureError, match="floating-point"):
        read_picture(buffer.getvalue(), manifest)


def test_broken_picture_is_named_when_it_is_decoded(project, tmp_path):
    path = tmp_path / "cut.jpg"
    ImageOps.expand(grey(patterned(1, 1).images[0, :, :, 0]), 50).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    exported = load_exported(project[0] / "models/export/model.onnx")
    pictures = find_pictures([str(path)]).pictures
    (part,) = classify_pictures(exported, pictures)
    assert part.answers == []
    (line,) = part.wrong
    assert f"{path}: expected a PNG, JPEG" in line
    assert "found a damaged one" in line
