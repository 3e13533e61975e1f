"""The report: what it says, that it is safe to open, and how it looks in a browser."""

import base64
import html
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml
from PIL import Image

from src import paths
from src.config.params import Params
from src.data.examples import Examples, Source
from src.data.prepared import save_prepared
from src.evaluation.metrics import test_metrics as all_metrics
from src.reporting.charts import Axis, learning_curves, reliability
from src.reporting.commit import SOURCES
from src.storage.reading import digest
from tests.helpers.browser import evaluate, print_to_pdf
from tests.helpers.files import (
    committed,
    write_csv,
    write_json,
    write_metrics,
    write_record,
)
from tests.helpers.imports import ROOT
from tests.helpers.running import exit_code, run_stage

HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=https://example.com/x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "unbroken" * 12,
]
HISTORY = "epoch", "train_loss", "train_accuracy", "validation_loss"
ROWS = [(1, 2.0, 0.25, 1.5, 0.5), (2, "", "", 0.5, 0.75), (3, 0.01, 0.95, 0.75, 0.625)]
SECTIONS = ("curves", "confusion", "classes", "calibration", "mistakes", "exports")
EXPORT = {
    "onnx": {"accuracy": 0.875, "bytes": 215156, "changed": 2, "mean_difference": 1e-9},
    "stablehlo": {"accuracy": 0.75, "bytes": 7, "largest_difference": 6e-07},
}


class Run:
    """A finished run, made up: what each stage would have left in the folder."""

    def __init__(self, names, shape=(4, 6, 1), wrong=5, count=40):
        rng = np.random.default_rng(0)
        self.names = names
        self.labels = np.arange(count, dtype=np.int32) % len(names)
        self.images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        self.predicted = self.labels.copy()
        self.predicted[:wrong] = (self.labels[:wrong] + 1) % len(names)
        self.confidence = np.round(rng.uniform(0.5, 1.0, count), 6)
        test = Examples(self.images, self.labels)
        splits = {"train": test, "validation": test, "test": test}
        source = Source("made up", "1.2", names, test, None, None)
        self.manifest = committed(save_prepared, source, splits)
        self.write_training()
        self.write_scores()
        self.write_export()
        paths.LOCK.write_text("jax==1\n")

    def write_training(self):
        history = write_csv(paths.HISTORY, (*HISTORY, "validation_accuracy"), ROWS)
        metrics = {"best_epoch": 2, "epochs": 3, "steps": 1234, "skipped": 0}
        write_metrics(paths.METRICS / "train.json", {**metrics, "validation": {}})
        sizes = {key: {"examples": 40} for key in ("train", "validation", "test")}
        prepared = {**sizes, "in_both": {"train_test": 6789}}
        write_metrics(paths.METRICS / "prepare.json", prepared)
        record = {
            "architecture": {"model": "cnn_max"},
            "class_names": self.names,
            "data_sha256": {"train": self.manifest["sha256"]["train"]},
            "epoch": 2,
            "stopped": "patience",
            "versions": {"jax": "9.8.7"},
            "sha256": "d" * 64,
            "history_sha256": history,
        }
        write_record(paths.MODEL, record)

    def write_scores(self):
        count, classes = len(self.labels), len(self.names)
        rest = (1 - self.confidence) / classes
        probabilities = np.repeat(rest[:, None], classes, 1)
        probabilities[np.arange(count), self.predicted] = self.confidence
        self.scores = all_metrics(np.log(probabilities), self.labels, self.names, 1)
        write_metrics(paths.METRICS / "test.json", {"test": self.scores})
        named = [[self.names[i] for i in of] for of in (self.labels, self.predicted)]
        rows = zip(range(count), *named, self.confidence.tolist(), strict=True)
        header = ("index", "actual", "predicted", "confidence")
        write_csv(paths.PREDICTIONS, header, rows)

    def write_export(self):
        write_json(paths.METRICS / "export.json", {"export": EXPORT})
        files = {
            name: {"file": f"model.{name}", "sha256": name[0] * 64} for name in EXPORT
        }
        weights = {"file": "weights.npz", "sha256": "d" * 64}
        manifest = {"formats": files, "weights": weights}
        write_record(paths.EXPORT / "manifest.json", manifest)


@pytest.fixture
def make_page(tmp_path, write_params, monkeypatch):
    """Makes up a run in `tmp_path`, the working directory, and its report."""
    monkeypatch.chdir(tmp_path)

    def make(names=("cat", "dog", "emu"), params=None, **options):
        write_params(**(params or {}))
        run = Run(list(names), **options)
        assert exit_code("report", monkeypatch) == 0
        return run, paths.REPORT.read_text()

    return make


class Text(HTMLParser):
    """The text of each section, and every tag with its attributes."""

    def __init__(self, page):
        super().__init__()
        self.section, self.texts, self.tags = "header", {}, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"]

    def handle_data(self, data):
        self.texts[self.section] = f"{self.texts.get(self.section, '')} {data.strip()}"

    def of(self, section):
        return " ".join(self.texts[section].split())


def test_headline_has_data_network_accuracy_and_best_epoch(make_page):
    run, page = make_page()
    text = Text(page).of("header")
    low, high = run.scores["accuracy_low"], run.scores["accuracy_high"]
    assert "made up cnn_max" in text
    assert "0.8750" in text  # 35 of 40
    assert f"95 % interval {low:.4f} to {high:.4f}; 35 of 40 images" in text
    assert "best epoch 2 of 3, stopped by patience" in text


def test_page_has_every_section_and_no_empty_one(make_page):
    _, page = make_page()
    text = Text(page)
    assert text.texts.keys() >= {*SECTIONS, "parameters", "lineage"}
    assert all(len(text.of(name)) > 20 for name in text.texts)


def test_class_table_has_the_scores_of_the_metrics_and_an_interval(make_page):
    run, page = make_page(names=("cat", "dog"))
    text = Text(page).of("classes")
    for name in run.names:
        scores = run.scores["classes"][name]
        numbers = [f"{scores[key]:.4f}" for key in ("precision", "recall")]
        assert f"{name} 20 {' '.join(numbers)} " in text
    # 17 of 20, from the formula's textbook example: Wilson, z = 1.96.
    assert "0.6396 to 0.9476" in text


def test_confusion_matrix_counts_each_image_once(make_page):
    run, page = make_page()
    drawn = re.findall(r"<title>(\w+) taken for (\w+): (\d+)</title>", page)
    counts = {(truth, answer): int(count) for truth, answer, count in drawn}
    for pair in zip(run.labels, run.predicted, strict=True):
        counts[tuple(run.names[number] for number in pair)] -= 1
    assert set(counts.values()) == {0}


def test_calibration_has_the_error_of_the_metrics_and_all_images(make_page):
    run, page = make_page()
    text = Text(page).of("calibration")
    assert f"{run.scores['calibration_error']:.4f}" in text
    images = re.findall(r"<title>(\d+) images: confidence", page)
    assert sum(map(int, images)) == 40
    assert f"{len(images)} of 15 bins" in text


def test_mistakes_are_shown_surest_first_with_their_pixels(make_page):
    run, page = make_page(shape=(4, 6, 3))
    wrong = sorted(range(5), key=lambda number: -run.confidence[number])
    shown = re.findall(r'src="data:image/png;base64,([^"]+)" alt="[a-z ]+(\d+)"', page)
    assert [int(number) for _, number in shown] == wrong
    for content, number in shown:
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        np.testing.assert_array_equal(np.asarray(picture), run.images[int(number)])
    first, names = wrong[0], run.names
    text = f"{names[run.predicted[first]]} {100 * run.confidence[first]:.1f} % is"
    assert f"{text} {names[run.labels[first]]}" in Text(page).of("mistakes")


def test_large_pictures_become_small_ones(make_page):
    _, page = make_page(shape=(400, 200, 3))
    first = re.search(r"data:image/png;base64,([^\"]+)", page)[1]
    assert Image.open(io.BytesIO(base64.b64decode(first))).size == (48, 96)


def test_no_more_than_two_dozen_mistakes_are_shown(make_page):
    _, page = make_page(wrong=40)
    assert page.count("data:image/png") == 24
    assert "40 of 40 test images were answered wrongly; the 24 of" in Text(page).of(
        "mistakes"
    )


def test_export_table_has_what_was_measured_of_each_format(make_page):
    _, page = make_page()
    text = Text(page).of("exports")
    assert "accuracy changed answers largest difference mean difference bytes" in text
    assert "onnx model.onnx 0.8750 2 none 1e-09 215,156" in text
    assert "stablehlo model.stablehlo 0.7500 none 6e-07 none 7" in text


def test_parameters_are_all_there_with_their_values(make_page):
    _, page = make_page(params={"lr": "3e-4", "clip_norm": "", "augment": "[shift]"})
    text = Text(page).of("parameters")
    for key, field in Params.model_fields.items():
        assert f"{key} {field.description}" in text
    for key, value in {
        "lr": "0.0003",
        "clip_norm": "empty",
        "augment": "[shift]",
    }.items():
        assert f"{key} {Params.model_fields[key].description} {value}" in text


def test_lineage_has_every_digest_and_version(make_page):
    run, page = make_page()
    text = Text(page).of("lineage")
    for sha256 in (*run.manifest["sha256"].values(), "d" * 64, "o" * 64, "s" * 64):
        assert sha256 in text
    assert "made up, version 1.2" in text
    assert "jax 9.8.7" in text
    assert "6,789 images in train and test" in text
    locked = subprocess.check_output(["sha256sum", paths.LOCK], text=True)
    assert locked.split()[0] in text
    assert "not known: this is no git repository" in text


@pytest.mark.parametrize(
    ("names", "wrong", "count"),
    [
        ("ab", 0, 6),
        ([str(number) for number in range(50)], 9, 120),
        ([str(number) for number in range(130)], 30, 200),
        ("abc", 3, 3),
    ],
    ids=["no mistake", "50 classes", "130 classes", "only mistakes"],
)
def test_page_of_any_number_of_classes_and_mistakes_is_whole(
    make_page, names, wrong, count
):
    _, page = make_page(names=names, wrong=wrong, count=count)
    text = Text(page)
    assert {*SECTIONS, "parameters", "lineage"} <= text.texts.keys()
    assert "nan" not in re.findall(r"[\w.]+", re.sub('<svg.*?>|base64,[^"]+', "", page))
    assert ('class="matrix"' in page) == (len(names) <= 50)
    assert ("None: all 6 test images" in text.of("mistakes")) == (wrong == 0)
    assert ("30 more are in metrics/test.json" in page) == (len(names) == 130)


def test_class_without_test_images_has_no_interval(make_page):
    _, page = make_page(names=[*"abcd"], count=3, wrong=1)
    assert "d 0 0.0000 0.0000 none 0.0000" in Text(page).of("classes")


def test_same_run_gives_the_same_page_to_the_byte(make_page, tmp_path):
    _, page = make_page()
    for zone in ("Asia/Tokyo", "America/Lima"):
        result = run_stage("report", tmp_path, TZ=zone, PYTHONHASHSEED="3", LANG="C")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.count("\n") == 1
        assert paths.REPORT.read_text() == page


INPUTS = [
    "data/prepared/manifest.json",
    "data/prepared/test.npz",
    "models/model.json",
    "models/export/manifest.json",
    *(f"metrics/{name}.json" for name in ("prepare", "train", "test", "export")),
    "metrics/plots/history.csv",
    "metrics/plots/predictions.csv",
    "requirements.lock",
]


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("damage", ["missing", "cut", "of another kind"])
def test_missing_or_damaged_input_is_code_three_and_leaves_the_old_page(
    make_page, monkeypatch, capsys, tmp_path, name, damage
):
    if name == "requirements.lock" and damage != "missing":
        pytest.skip("any text is a lock to the report")
    make_page()
    paths.REPORT.write_text("old")
    capsys.readouterr()
    spoilt = tmp_path / name
    content = spoilt.read_bytes()
    spoilt.unlink()
    if damage == "cut":
        spoilt.write_bytes(content[: len(content) // 2])
    elif damage == "of another kind":
        spoilt.write_bytes(b'{"export": 1, "test": [], "index": "\xc3\xa9"}')
    assert exit_code("report", monkeypatch) == 3
    error = capsys.readouterr().err
    assert error.startswith(f"report: {name}: ")
    assert error.count("\n") == 1
    assert paths.REPORT.read_text() == "old"


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (paths.METRICS / "test.json", lambda c: c["test"].update(correct=34)),
        (paths.METRICS / "test.json", lambda c: c["test"]["classes"].pop("cat")),
        (paths.METRICS / "test.json", lambda c: c["test"].update(accuracy=1e999)),
        (
            paths.METRICS / "test.json",
            lambda c: c["test"]["classes"]["cat"].update(examples=10**400),
        ),
        (paths.METRICS / "train.json", lambda c: c.update(best_epoch=3)),
        (
            paths.EXPORT / "manifest.json",
            lambda c: c["weights"].update(sha256="e" * 64),
        ),
    ],
    ids=["answers", "classes", "infinity", "size", "epoch", "weights"],
)
def test_file_of_another_run_is_refused(make_page, monkeypatch, capsys, path, change):
    make_page()
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert exit_code("report", monkeypatch) == 3
    assert capsys.readouterr().err.startswith(f"report: {path}: ")


def test_curve_has_a_gap_where_nothing_was_computed_and_a_dot_at_the_best_epoch():
    epochs, known = np.array([1.0, 2.0, 3.0]), np.array([0.5, np.nan, 0.25])
    chart = learning_curves(epochs, [("a", known), ("b", np.array([3.0, 1, 2]))], 2)
    assert [line.path.count("M") for line in chart.lines] == [2, 1]
    x, y = chart.best
    assert f"L{x:g} {y:g}L" in chart.lines[1].path
    assert x == (42 + 350) / 2


@pytest.mark.parametrize(
    "values",
    [
        [0.0],
        [0.5, 0.5],
        [1e-320, 0],
        [1.7e308, 1.0],
        [1e99, 1e-99],
        [np.nan, np.nan],
        [np.inf, 1.0],
        [-3.0, 4.0],
        [0.9999, 0.99991],
        range(5000),
    ],
)
def test_curve_of_any_numbers_has_an_axis_and_stays_on_it(values):
    values = np.array(values, np.float64)
    chart = learning_curves(np.arange(len(values)) + 1.0, [("a", values)], 1)
    places = [tick.place for tick in chart.y.ticks()]
    assert 2 <= len(places) <= 8
    assert all(chart.y.end - 0.1 <= place <= chart.y.begin + 0.1 for place in places)
    numbers = re.findall(r"[^MLh ]+", chart.lines[0].path)
    assert all(0 <= float(number) <= 360 for number in numbers)
    assert len(numbers) <= 4 * 600


@pytest.mark.parametrize("cell", ["inf", "nan", "0", "-1", "1e400", "x"])
def test_history_without_rising_epochs_is_refused(make_page, monkeypatch, capsys, cell):
    make_page()
    text = paths.HISTORY.read_text().replace("\n3,", f"\n{cell},")
    paths.HISTORY.write_text(text)
    record = json.loads(paths.MODEL.read_text())
    del record["sha256_of_the_rest"]
    record["history_sha256"] = digest(text.encode())
    write_record(paths.MODEL, record)
    assert exit_code("report", monkeypatch) == 3
    assert capsys.readouterr().err.startswith(f"report: {paths.HISTORY}: expected")


def test_points_of_reliability_are_means_of_their_bins():
    confidence = np.array([0.1, 0.2, 0.95, 1.0])
    correct = np.array([True, False, True, True])
    unit = Axis(0, 1, 0, 100), Axis(0, 1, 100, 0)
    low, high = reliability(confidence, correct, 2, *unit)
    assert (low.across, low.down, low.images) == (15, 50, 2)
    assert (high.across, high.down, high.images) == (97.5, 0, 2)


@pytest.mark.parametrize(
    ("axis", "labels"),
    [
        (Axis(0, 1, 0, 1), ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (Axis(1, 60, 0, 1), ["20", "40", "60"]),
        (Axis(1, 3, 0, 1, whole=True), ["1", "2", "3"]),
        (Axis(1, 2, 0, 1), ["1", "1.2", "1.4", "1.6", "1.8", "2"]),
        (Axis(0.002, 2.5, 0, 1, logarithmic=True), ["0.01", "0.1", "1"]),
    ],
)
def test_ticks_are_round_numbers_within_the_axis(axis, labels):
    assert [tick.label for tick in axis.ticks()] == labels


def framed(page, folder):
    """A page that holds the report in a frame as wide as a phone."""
    frame = folder / "frame.html"
    source = html.escape(page)
    frame.write_text(f'<iframe width="390" height="800" srcdoc="{source}"></iframe>')
    return frame


LOOK = """
const frame = document.querySelector("iframe"), page = frame.contentDocument;
return {
  width: frame.contentWindow.innerWidth,
  needed: page.documentElement.scrollWidth,
  requests: frame.contentWindow.performance.getEntriesByType("resource").length,
  scripts: page.scripts.length,
  handlers: [...page.querySelectorAll("*")].flatMap(each => [...each.attributes])
    .filter(each => each.name.startsWith("on")).length,
  pictures: [...page.images].every(each => each.src.startsWith("data:image/png;")
    && each.naturalWidth > 0),
  names: [...page.querySelectorAll("#classes tbody th")].map(each => each.textContent),
};
"""


@pytest.fixture
def look(make_page, tmp_path):
    """What a browser makes of a report in a frame of 390 pixels."""

    def looked(**options):
        _, page = make_page(**options)
        return evaluate(framed(page, tmp_path), LOOK, tmp_path)

    return looked


def test_hostile_names_are_shown_as_text_and_nothing_of_them_runs(look):
    seen = look(names=HOSTILE, params={"data_path": "'<script>alert(2)</script>'"})
    assert seen["names"] == HOSTILE
    assert (seen["scripts"], seen["handlers"]) == (0, 0)
    assert seen["pictures"]


def test_page_asks_for_nothing_else(look):
    assert look(names=HOSTILE)["requests"] == 0
    tags = Text(paths.REPORT.read_text()).tags
    loaded = [of[key] for _, of in tags for key in ("src", "href") if key in of]
    assert all(address.startswith("data:image/png;") for address in loaded)
    assert not {tag for tag, _ in tags} & {"script", "link", "iframe", "object"}
    assert not re.search(r"url\(|@import", paths.REPORT.read_text())


@pytest.mark.parametrize(
    "names", [("cat", "dog"), HOSTILE, [f"class {n}" for n in range(50)]]
)
def test_page_does_not_scroll_sideways_on_a_phone(look, names):
    seen = look(names=names, count=150)
    assert seen["width"] == 390
    assert seen["needed"] <= 390


def test_page_prints_on_a_few_sheets(make_page, tmp_path):
    make_page()
    print_to_pdf(tmp_path / paths.REPORT, tmp_path / "report.pdf", tmp_path)
    sheets = re.findall(rb"/Type /Page\b", (tmp_path / "report.pdf").read_bytes())
    assert 3 <= len(sheets) <= 8


def test_report_does_not_wait_for_the_large_libraries():
    code = (
        "import sys, stages.report, src.results.read;"
        "import src.reporting.page, src.reporting.commit;"
        "print({'jax', 'tensorflow', 'matplotlib'} & set(sys.modules))"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.check_output(run, cwd=ROOT, text=True) == "set()\n"


def test_page_is_made_anew_when_its_template_or_its_commit_changes():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {"src", *SOURCES} <= set(stages["report"]["deps"])


def test_commit_is_of_all_sources_of_all_stages():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    made = {str(out) for stage in stages for out in stage.get("outs", [])}
    made |= {
        key
        for stage in stages
        for out in stage.get("outs", [])
        if isinstance(out, dict)
        for key in out
    }
    for stage in stages:
        for name in stage["deps"]:
            generated = any(name.startswith(each) for each in made)
            source = name in SOURCES or name.split("/")[0] in SOURCES
            assert generated or source or name == "${data_path}", name
