"""MODEL_CARD.md: content and commands."""

import json
import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from src import paths
from src.data.pictures import PicturePolicy, read_pixels
from src.data.prepared import PictureRecord
from src.errors import DataError
from src.export.fresh_process import unpack_files
from src.export.model_card import background_words, model_card, plain
from src.results.read import RunMetrics, read_run_metrics
from src.results.schema import PrepareMetrics, ScoreDetails, Scores, TrainDetails
from tests.helpers.examples import patterned
from tests.helpers.formats import (
    FORMATS,
    all_formats,
    convert_all,
    probabilities,
    trained_network,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)
RESULTS = {
    "bytes": 1234,
    "accuracy": 0.96,
    "changed": 2,
    "largest_difference": 3e-7,
    "mean_difference": 1e-9,
}
NAMES = ["low", "middle", "high"]


def scores(names=NAMES):
    classes = {
        name: {
            "examples": 25,
            "f1": 0.9,
            "precision": 0.8,
            "recall": 0.96 - 0.2 * index,
        }
        for index, name in enumerate(names)
    }
    test = {
        "accuracy": 0.95,
        "accuracy_low": 0.9,
        "accuracy_high": 0.98,
        "balanced_accuracy": 0.76,
        "calibration_error": 0.01,
        "classes": classes,
        "examples": 75,
        "f1": 0.94,
        "precision": 0.93,
        "recall": 0.92,
        "top_k": 1.0,
        "correct": 71,
        "loss": 0.123,
    }
    counts = {name: {"examples": 10} for name in ("train", "validation", "test")}
    training = {"epochs": 5, "steps": 100, "skipped": 0}
    return {
        "sizes": counts,
        "in_both": {"train_test": 0},
        "best_epoch": 3,
        "training": training,
        "test": test,
    }


def as_read(metrics):
    return RunMetrics(
        sizes=PrepareMetrics.model_validate(metrics["sizes"]),
        in_both=metrics["in_both"],
        best_epoch=metrics["best_epoch"],
        training=TrainDetails.model_validate(metrics["training"]),
        scores=Scores.model_validate(metrics["test"]),
        details=ScoreDetails.model_validate(metrics["test"]),
    )


def wilson(correct, count):
    """Wilson's interval as the two roots of its quadratic equation."""
    z2 = 1.959963984540054**2
    share = correct / count
    equation = [1 + z2 / count, -2 * share - z2 / count, share**2]
    return sorted(np.roots(equation).real)


def card(names=("numpy",), metrics=None, **record):
    trained = trained_network(**record)
    export = convert_all(names, trained, patterned(9, 1).images)
    results = {name: RESULTS for name in names}
    measured = as_read(metrics or scores())
    return model_card(trained, export.manifest, results, measured).decode()


def section(text, title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]


def table(text):
    """The cells of all table rows."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_front_matter_is_what_hugging_face_reads():
    data = ModelCard(card()).data
    assert data.pipeline_tag == "image-classification"
    (accuracy, f1) = data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", 0.95)
    assert (f1.metric_type, f1.metric_value) == ("f1", 0.94)
    assert accuracy.dataset_name == "digits"
    assert data.model_name == "cnn on digits"


def test_recall_of_each_class_has_its_interval():
    for name, recall, row in zip(
        NAMES, (24, 19, 14), table(section(card(), "Results"))[-3:], strict=True
    ):
        low, high = wilson(recall, 25)
        assert row[0] == name
        assert row[3] == f"{low:.4f} to {high:.4f}"


def test_balanced_accuracy_follows_accuracy_if_classes_are_unequal():
    labels = [0] * 3 + [1] * 2 + [2] * 5
    predicted = [0, 0, 1] + [1, 2] + [2] * 5
    metrics = scores()
    balanced = balanced_accuracy_score(labels, predicted)
    metrics["test"]["balanced_accuracy"] = balanced
    for name, examples in zip(NAMES, (3, 2, 5), strict=True):
        metrics["test"]["classes"][name]["examples"] = examples
    results = section(card(metrics=metrics), "Results")
    names = [row[0] for row in table(results)]
    assert names[1:4] == ["accuracy", "balanced accuracy", "macro F1"]
    assert table(results)[2][1] == f"{balanced:.4f}" == "0.7222"
    assert "Balanced accuracy counts them equally" in results


def test_balanced_accuracy_is_left_out_if_classes_are_equal():
    metrics = scores()
    for name, examples in zip(NAMES, (30, 20, 0), strict=True):
        metrics["test"]["classes"][name]["examples"] = examples
    assert "alanced accuracy" not in card(metrics=metrics)


def test_weakest_class_is_named():
    assert "Weakest class: high, recall 0.5600 on 25 images" in section(
        card(), "Limits of use"
    )


def test_table_lists_files_with_their_measurements():
    (header, row) = table(section(card(), "Files"))
    assert row[:2] == ["numpy", "`numpy_predictor.py`"]
    assert row[3:] == ["0.9600", "3.0e-07", "1.0e-09", "2"]
    assert header[0] == "format"


def test_digests_of_weights_data_and_files_are_given():
    trained = trained_network()
    export = convert_all(["numpy"], trained, patterned(9, 1).images)
    text = section(card(), "Provenance")
    assert export.manifest["weights"]["sha256"] in text
    assert export.manifest["formats"]["numpy"]["sha256"] in text
    assert "a" * 64 in text


def test_calibration_is_described():
    assert "differ by\n0.0100 on average" in section(card(), "Results")


def test_class_without_test_images_is_not_the_weakest():
    metrics = scores()
    none = {"examples": 0, "f1": 0.0, "precision": 0.0, "recall": 0.0}
    metrics["test"]["classes"]["ghost"] = none
    text = card(metrics=metrics)
    assert "Weakest class: high" in text
    assert "| ghost | 0 | 0.0000 | 0.0000 to 1.0000 |" in text


@pytest.mark.parametrize(
    ("background", "words"),
    [
        (3, "a dark background"),
        (250, "a bright background"),
        (128, "a similar background"),
    ],
)
def test_card_describes_the_expected_background(background, words):
    assert background_words(background) == words


def test_duplicates_in_train_and_test_are_reported():
    metrics = scores()
    assert "none of which is in the training split" in card(metrics=metrics)
    metrics["in_both"]["train_test"] = 3
    text = card(metrics=metrics)
    assert "3 images are in both train and test" in text
    assert "none of which is in the training split" not in text


def test_averaged_weights_are_mentioned():
    assert "moving average" not in card()
    parameters = {"top_k": 2, "seed": 7, "ema_decay": 0.99}
    assert "the weights are the exponential moving average" in card(
        parameters=parameters
    )


def test_card_says_how_answers_are_made_only_where_it_was_chosen():
    quiet = card()
    for word in ("fitted on validation", "Threshold", "Unsure", "area under ROC"):
        assert word not in quiet
    metrics = scores()
    metrics["training"]["calibration"] = {
        "temperature": 1.25,
        "calibration_error_before": 0.05,
        "calibration_error_after": 0.01,
    }
    metrics["test"] |= {
        "roc_auc": 0.9876,
        "average_precision": 0.9,
        "threshold": 0.31,
        "reject_below": 0.8,
        "coverage": 0.925,
        "answered_accuracy": 0.99,
    }
    text = section(card(metrics=metrics), "Results")
    rows = {row[0]: row[1] for row in table(text)}
    assert rows["area under ROC, one class versus the rest, mean"] == "0.9876"
    words = " ".join(text.split())
    assert "The logits were divided by 1.25, fitted on validation." in words
    assert "The answer is middle from a probability of 0.31 on" in words
    assert "Below a confidence of 0.8 the network is unsure" in words
    assert "answers 92.5 % of the test images, with accuracy 0.9900." in words


def test_licence_of_unknown_data_is_not_invented():
    assert "CC BY 4.0" in card()
    assert "unknown; ask the source" in plainer(card(dataset="folder"))


def plainer(text):
    return text.replace("\\", "")


def test_names_cannot_break_the_card():
    hostile = ["a|b", "[x](javascript:alert)", "<script>alert(1)</script>"]
    metrics = scores(hostile)
    text = card(metrics=metrics, dataset="da`ta\n---\n# x", class_names=hostile)
    assert "<script>" not in text.replace("\\<", "")
    rows = table(section(text, "Results"))[-3:]
    assert all(len(re.findall(r"(?<!\\)\|", "|".join(row))) >= 5 for row in rows)
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["model-index"][0]["results"][0]["dataset"]["name"].startswith("da`ta")


def test_plain_escapes_markdown():
    assert plain("a_b*c") == r"a\_b\*c"
    assert plain("| <b> [l](x)") == r"\| \<b\> \[l\]\(x\)"
    assert "\n" not in plain("two\nlines")


def test_card_contains_no_date_and_no_path():
    assert card() == card()
    assert str(paths.Path.cwd()) not in card()


def test_metrics_of_another_shape_are_an_error_of_one_line(prepared):
    (paths.METRICS / "train.json").write_text('{"best_epoch": 0}')
    with pytest.raises(DataError, match=r"metrics/train\.json: best_epoch: expected"):
        read_run_metrics()


def test_missing_metrics_name_the_stage_that_makes_them(prepared):
    with pytest.raises(DataError, match=r"train\.json.*dvc repro train"):
        read_run_metrics()


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """A folder with the exported files and a picture, as on a device."""
    folder = tmp_path_factory.mktemp("device")
    trained = trained_network()
    _, export = all_formats()
    text = model_card(
        trained, export.manifest, dict.fromkeys(FORMATS, RESULTS), as_read(scores())
    )
    unpack_files({**export.files, "MODEL_CARD.md": text}, folder)
    image = patterned(1, seed=4).images[0]
    Image.fromarray(image[:, :, 0]).save(folder / "picture.png")
    return folder, probabilities(trained, image[None])[0]


def commands(text):
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


# Fast to start. test_formats and the stage's tests run every format, so these suffice.
QUICK = "numpy_predictor.py", "model.onnx", "model_int8.tflite"


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_commands_of_the_card_give_the_predictions_of_the_network(device, quick):
    folder, expected = device
    programs = [
        line
        for line in commands((folder / "MODEL_CARD.md").read_text())
        if line.startswith("python ")
    ]
    assert len(programs) == 1 + 2 * len(FORMATS)
    first, *others = programs  # makes pictures.npy
    chosen = [line for line in others if any(file in line for file in QUICK) == quick]
    assert 0 < len(chosen) < len(others)
    for line in (first, *chosen):
        words = [sys.executable, *shlex.split(line)[1:]]
        output = subprocess.run(
            words, cwd=folder, check=True, capture_output=True, text=True, timeout=300
        ).stdout
        if line.endswith("--latency"):
            assert json.loads(output)["batch_1"]["median_ms"] > 0
        elif "run.py" in line:
            name, share = output.split()
            tolerance = 0.05 if "int8" in line else 1e-4
            assert float(share) == pytest.approx(expected.max(), abs=tolerance)
            if "int8" not in line:
                assert name == NAMES[expected.argmax()]


def test_commands_of_a_card_for_picture_files_run(tmp_path):
    policy = PictureRecord(size=(8, 8), fit="pad", channels=1, background="white")
    trained = trained_network()
    images = patterned(9, 1).images
    export = convert_all(["numpy"], trained, images, pictures=policy)
    measured = as_read(scores())
    text = model_card(trained, export.manifest, {"numpy": RESULTS}, measured)
    unpack_files(export.files, tmp_path)
    picture = Image.fromarray(patterned(1, seed=4).images[0, :, :, 0]).resize((50, 20))
    picture.save(tmp_path / "picture.png")
    asked = PicturePolicy.of(policy.model_dump())
    pixels = read_pixels(tmp_path / "picture.png", asked)
    (expected,) = probabilities(trained, pixels[None])
    assert "resized to 8 x 8 (height, width; `pad`),\non white." in text.decode()
    programs = [line for line in commands(text.decode()) if line.startswith("python ")]
    assert len(programs) == 2
    words = [sys.executable, *shlex.split(programs[0])[1:]]
    output = subprocess.check_output(words, cwd=tmp_path, text=True)
    name, share = output.split()[1:]
    assert name == NAMES[expected.argmax()]
    assert float(share) == pytest.approx(expected.max(), abs=1e-4)


def test_lines_of_python_in_the_card_run(device, monkeypatch):
    folder, expected = device
    text = (folder / "MODEL_CARD.md").read_text()
    code = re.search(r"From Python: `(.*?)`", text)[1]
    images = patterned(1, seed=4).images
    found: dict = {"images": images}
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    exec(code, found)
    np.testing.assert_allclose(found["probabilities"][0], expected, atol=1e-5)


def test_card_names_installable_packages(device):
    text = (device[0] / "MODEL_CARD.md").read_text()
    asked = {
        name
        for line in commands(text)
        if line.startswith("pip install ")
        for name in line.split()[2:]
    }
    assert asked == {
        *("numpy", "pillow", "jax", "flatbuffers", "tensorflow"),
        *("ai-edge-litert", "onnxruntime"),
    }
    for name in asked:
        assert installed(name) or installed(f"{name}-cpu")


def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def test_every_file_in_the_card_exists(device):
    folder, _ = device
    text = (folder / "MODEL_CARD.md").read_text()
    for name in re.findall(r"`([\w.]+\.(?:py|json|npz|onnx|tflite|stablehlo))`", text):
        assert (folder / name).exists(), name
