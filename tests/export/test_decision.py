"""A threshold and `reject_below` in everything that an export answers with."""

import json
import re
import subprocess
import sys
from contextlib import chdir
from dataclasses import replace

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from src.evaluation.decision import Decision
from src.export.compare import compare
from src.export.demo_page import demo_page
from src.export.formats import format_module
from src.export.fresh_process import unpack_files
from src.models.build import build_model
from stages.predict import main
from tests.helpers.browser import evaluate
from tests.helpers.examples import patterned
from tests.helpers.files import write_record
from tests.helpers.formats import as_trained, convert_all, probabilities, untrained
from tests.helpers.running import run_stage
from tests.helpers.user_model import undecided

DECISION = Decision(0.3, 0.6)
NAMES = ["class 0", "class 1"]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """An export with a decision, the probabilities of some images, and the network."""
    folder = tmp_path_factory.mktemp("export")
    images = patterned(24, 5).images
    model = undecided(two_classes(), images, spread=1.0)
    model.output.bias[...] -= np.float32([0, 0.9])  # the second class is less likely
    trained = as_trained(model, (8, 8, 1), classes=2)
    made = convert_all(["numpy"], trained, images, decision=DECISION)
    unpack_files(made.files, folder)
    for index, image in enumerate(images):
        Image.fromarray(image[:, :, 0]).save(folder / f"{index:02}.png")
    np.save(folder / "images.npy", images)
    shares = probabilities(trained, images).astype(np.float64)
    return folder, shares, trained


def two_classes():
    architecture = replace(untrained("mlp").record.architecture, classes=2)
    return build_model(architecture, nnx.Rngs(params=1))


def expected_answers(shares):
    """Label, confidence and unsure of each row, written out."""
    for row in shares:
        label = 1 if row[1] >= 0.3 else 0
        yield label, row[label], row[label] < 0.6


def test_decision_tells_the_images_apart(shipped):
    """Otherwise the tests below would test nothing."""
    _, shares, _ = shipped
    answers = list(expected_answers(shares))
    assert {(label, unsure) for label, _, unsure in answers} >= {
        (0, False),
        (1, False),
        (1, True),
    }
    assert [label for label, *_ in answers] != shares.argmax(1).tolist()


def test_manifest_has_the_decision(shipped):
    manifest = json.loads((shipped[0] / "manifest.json").read_text())
    assert (manifest["threshold"], manifest["reject_below"]) == (0.3, 0.6)


def test_program_prints_the_answer_and_whether_it_is_unsure(shipped):
    folder, shares, _ = shipped
    command = ["-I", "run.py", "numpy_predictor.py", "images.npy"]
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [
        f"{NAMES[label]}\t{confidence:.4f}" + ("\tunsure" if unsure else "")
        for label, confidence, unsure in expected_answers(shares)
    ]


def predict(folder, monkeypatch, *options):
    """Runs predict on all pictures."""
    pictures = [f"{index:02}.png" for index in range(24)]
    model = ["--model", "numpy_predictor.py"]
    monkeypatch.setattr("sys.argv", ["predict", *pictures, *model, *options])
    with chdir(folder):
        main()


def test_predict_has_the_answer_first_and_says_where_it_is_unsure(
    shipped, monkeypatch, capsys
):
    folder, shares, _ = shipped
    predict(folder, monkeypatch, "--json")
    found = json.loads(capsys.readouterr().out)
    predict(folder, monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    wanted = expected_answers(shares)
    for each, line, answer in zip(found, lines, wanted, strict=True):
        label, confidence, unsure = answer
        first, second = each["classes"]
        assert first["class"] == NAMES[label]
        assert first["probability"] == pytest.approx(confidence, abs=2e-6)
        assert second["class"] == NAMES[1 - label]
        assert each["unsure"] is bool(unsure)
        assert line.startswith(f"{each['picture']}: {NAMES[label]} {confidence:.1%}, ")
        assert line.endswith(" (unsure)") == unsure


def test_demo_page_answers_as_predict_does(shipped, tmp_path):
    folder, shares, trained = shipped
    manifest = json.loads((folder / "manifest.json").read_text())
    test = patterned(24, 5)
    with np.load(folder / "constants.npz") as constants:
        page = demo_page(trained, manifest, constants, test, np.float32(shares))
    file = tmp_path / "demo.html"
    file.write_bytes(page.content)
    rows = test.images.reshape(24, -1).tolist()
    # A picture of the input's size is used pixel for pixel.
    script = f"""
    const found = [];
    for (const row of {json.dumps(rows)}) {{
      const canvas = new OffscreenCanvas(8, 8), context = canvas.getContext("2d");
      const image = context.createImageData(8, 8);
      row.forEach((value, place) =>
        image.data.set([value, value, value, 255], 4 * place));
      context.putImageData(image, 0, 0);
      const blob = await canvas.convertToBlob();
      const data = new DataTransfer();
      data.items.add(new File([blob], "a.png", {{type: "image/png"}}));
      const input = document.getElementById("file");
      input.files = data.files;
      const spoken = document.getElementById("spoken");
      spoken.textContent = "";
      input.dispatchEvent(new Event("change"));
      while (!spoken.textContent) await new Promise((done) => setTimeout(done, 5));
      found.push([document.getElementById("best").textContent,
        document.querySelector(".first .name").textContent]);
    }}
    return found;
    """
    found = evaluate(file, script, tmp_path)
    assert found == [
        [NAMES[label] + (" (unsure)" if unsure else ""), NAMES[label]]
        for label, _, unsure in expected_answers(shares)
    ]


def test_accuracy_of_a_format_is_that_of_its_answers():
    expected = np.array([[0.6, 0.4], [0.8, 0.2], [0.65, 0.35]])
    labels = np.array([1, 0, 0])
    allowed = np.full(3, 1e-6)
    found = compare(
        format_module("numpy"), expected, labels, expected, allowed, DECISION
    )
    assert (found["accuracy"], found["changed"]) == (2 / 3, 0)


def test_format_may_change_an_answer_only_next_to_the_threshold():
    expected = np.array([[0.7 + 5e-7, 0.3 - 5e-7], [0.5, 0.5]])
    found = np.array([[0.7, 0.3], [0.5, 0.5]])
    labels, allowed = np.array([0, 0]), np.full(2, 1e-6)
    module = format_module("numpy")
    assert compare(module, found, labels, expected, allowed, DECISION)["changed"] == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threshold", 2),
        ("threshold", "f1"),
        ("reject_below", -0.1),
        ("reject_below", []),
    ],
)
def test_wrong_decision_in_a_manifest_is_code_three(shipped, tmp_path, key, value):
    folder, _, _ = shipped
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[key] = value
    del manifest["sha256_of_the_rest"]
    write_record(tmp_path / "manifest.json", manifest)
    model = tmp_path / "numpy_predictor.py"
    model.write_bytes((folder / model.name).read_bytes())
    ended = run_stage("predict", folder, ["00.png", "--model", str(model)])
    assert ended.returncode == 3
    assert re.fullmatch(rf"predict: .*manifest\.json: {key}: .*\n", ended.stderr)
