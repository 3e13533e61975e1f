"""`python -m stages.predict --explain`, and its warning of unlike pictures."""

import json
from contextlib import chdir

import numpy as np
import pytest
from PIL import Image

from src import paths
from src.errors import DataError, ParameterError
from src.export.explain import heat_map_file, load_explained
from src.export.formats import write_files
from src.export.manifest import add_unlike
from src.models.checkpoint import ModelRecord, TrainedModel, save_trained, weights_of
from src.storage.json_files import read_record
from stages.predict import main
from tests.helpers.examples import patterned
from tests.helpers.files import committed
from tests.helpers.formats import convert_all, probabilities, trained_network
from tests.helpers.running import run_stage

NAMES = ["low", "middle", "high"]
TRAIN, VALIDATION = patterned(120, 1).images, patterned(60, 2).images


def write_project(folder):
    """Writes models/: a network, its export as numpy, and pictures."""
    trained = trained_network()
    record = trained.record
    extra = record.model_dump(exclude={"architecture", "sha256"})
    with chdir(folder):
        weights = weights_of(trained.model)
        committed(save_trained, weights, record.architecture, extra)
        saved = read_record(paths.MODEL, ModelRecord, "")
        trained = TrainedModel(trained.model, trained.weights, saved)
        export = convert_all(["numpy"], trained, TRAIN)
        export = add_unlike(export, TRAIN, VALIDATION)
        committed(write_files, export.files)
    (folder / "pictures").mkdir()
    for index, image in enumerate(patterned(3, 3).images):
        Image.fromarray(image[:, :, 0]).save(folder / f"pictures/{index}.png")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    return trained, export


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    return folder, *write_project(folder)


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """The project as the working directory; what a test writes is in `tmp_path`."""
    monkeypatch.chdir(made[0])
    return made


def predict(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["predict", *map(str, arguments)])
    main()


def test_each_picture_gets_a_heat_map(project, tmp_path, monkeypatch, capsys):
    predict(monkeypatch, "pictures", "--json", "--explain", tmp_path / "maps")
    printed = capsys.readouterr()
    answers = json.loads(printed.out)
    names = [f"{index}.png.heat.png" for index in range(3)]
    assert [each["heat_map"] for each in answers] == [
        str(tmp_path / "maps" / name) for name in names
    ]
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == names
    for each in answers:
        with Image.open(each["heat_map"]) as picture:
            assert picture.format == "PNG"
            pixels = np.asarray(picture.convert("RGB"), int)
        assert (pixels[:, :, 0] - pixels[:, :, 2]).max() > 60  # some red
    assert f"3 heat maps -> {tmp_path / 'maps'}" in printed.err


def test_answers_are_those_without_explanations(project, tmp_path, monkeypatch, capsys):
    predict(monkeypatch, "pictures", "--json")
    plain = json.loads(capsys.readouterr().out)
    predict(monkeypatch, "pictures", "--json", "--explain", tmp_path)
    explained = json.loads(capsys.readouterr().out)
    assert [each | {"heat_map": None} for each in plain] == [
        each | {"heat_map": None} for each in explained
    ]


def test_heat_maps_are_the_same_each_time(project, tmp_path, monkeypatch):
    for folder in ("a", "b", "b"):
        predict(monkeypatch, "pictures", "--explain", tmp_path / folder)
    for index in range(3):
        name = f"{index}.png.heat.png"
        first, second = ((tmp_path / each / name).read_bytes() for each in "ab")
        assert first == second
    assert len(list((tmp_path / "b").iterdir())) == 3


def test_pictures_of_one_name_get_files_of_their_own(project, tmp_path, monkeypatch):
    pictures = ["pictures/0.png", "pictures/../pictures/0.png"]
    predict(monkeypatch, *pictures, "--explain", tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"0.png.heat.png", "0.png-2.heat.png"}


def test_long_name_is_shortened_to_one_that_a_disk_takes(tmp_path):
    file = heat_map_file(tmp_path, f"folder/{'日' * 80}.png", set())
    file.write_bytes(b"")
    assert file.name.endswith(".png.heat.png")


def test_names_that_differ_in_case_only_get_two_files(tmp_path):
    first = heat_map_file(tmp_path, "one/A.png", set())
    second = heat_map_file(tmp_path, "two/a.png", {first})
    assert (first.name, second.name) == ("A.png.heat.png", "a.png-2.heat.png")


def test_picture_that_cannot_be_read_has_no_map(project, tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("x")
    asked = [tmp_path / "text.png", "pictures/1.png", "--explain", tmp_path / "maps"]
    with pytest.raises(DataError, match=r"text\.png"):
        predict(monkeypatch, *asked)
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["1.png.heat.png"]


def test_folder_of_maps_among_the_pictures_is_refused(project, monkeypatch):
    for folder in ("pictures", "pictures/maps"):
        with pytest.raises(ParameterError, match="outside of pictures, whose pictures"):
            predict(monkeypatch, "pictures", "--explain", folder)


def test_file_in_place_of_the_folder_is_one_line(project, tmp_path):
    (tmp_path / "maps").write_text("mine")
    asked = ["pictures/0.png", "--explain", str(tmp_path / "maps")]
    ended = run_stage("predict", project[0], asked)
    assert ended.returncode == 5
    assert len(ended.stderr.splitlines()) == 1
    assert "A folder must be there: move the file away." in ended.stderr
    assert (tmp_path / "maps").read_text() == "mine"


def test_map_without_the_trained_network_is_refused(project, tmp_path, monkeypatch):
    _, trained, _ = project
    sha256 = trained.record.sha256
    monkeypatch.chdir(tmp_path)
    needed = r"model.json: expected a file, found none. --explain needs the trained"
    with pytest.raises(DataError, match=needed):
        load_explained(sha256)


def test_network_that_was_trained_later_is_refused(project, monkeypatch):
    with pytest.raises(
        DataError, match=r"expected the network that was exported, with"
    ):
        load_explained("0" * 64)


def test_explained_network_has_the_answers_of_the_export(project):
    _, trained, _ = project
    model, images = load_explained(trained.record.sha256), patterned(5, 5).images
    found = probabilities(TrainedModel(model, {}, trained.record), images)
    np.testing.assert_allclose(found, probabilities(trained, images), atol=1e-6)


def test_unlike_picture_has_a_higher_score_and_a_warning(project, monkeypatch, capsys):
    _, _, export = project
    threshold = export.manifest["unlike"]["threshold"]
    predict(monkeypatch, "pictures/0.png", "noise.png", "--json")
    printed = capsys.readouterr()
    one, other = (each["unlike_training"] for each in json.loads(printed.out))
    assert one <= threshold < other
    (line,) = printed.err.splitlines()
    assert line == (
        "predict: warning: noise.png: unlike the training pictures (score "
        f"{other:.1f}; 99% of the validation pictures have at most {threshold:.1f}): "
        "the answer may mean nothing"
    )


def test_text_has_the_warning_too(project):
    ended = run_stage("predict", project[0], ["noise.png"])
    assert ended.returncode == 0
    assert ended.stdout.startswith("noise.png: ")
    assert "warning: noise.png: unlike the training pictures" in ended.stderr


def test_changed_centres_are_refused_in_one_line(tmp_path):
    write_project(tmp_path)
    file = tmp_path / "models/export/unlike.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    ended = run_stage("predict", tmp_path, ["noise.png"])
    assert ended.returncode == 3
    (line,) = ended.stderr.splitlines()
    assert "unlike.npz: expected SHA-256" in line
    assert line.endswith("Recreate it: dvc repro export")


def test_export_without_centres_gives_no_score(tmp_path, monkeypatch, capsys):
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/export/unlike.npz").unlink()
    predict(monkeypatch, "noise.png", "--json")
    printed = capsys.readouterr()
    (answer,) = json.loads(printed.out)
    assert "unlike_training" not in answer
    assert printed.err == ""
