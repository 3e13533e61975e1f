"""The HTML report: content, escaping, and layout in a browser."""

import base64
import html
import json
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser

import pytest

from src import paths
from src.config.params import Params
from src.results.read import TEST_PLOTS
from tests.helpers.browser import evaluate, print_to_pdf
from tests.helpers.files import write_metrics
from tests.helpers.finished_run import FinishedRun
from tests.helpers.imports import ROOT
from tests.helpers.running import exit_code, run_stage

HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=https://example.com/x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "unbroken" * 12,
]
SECTIONS = ("curves", "confusion", "classes", "calibration", "mistakes", "exports")


@pytest.fixture
def make_page(tmp_path, write_params, monkeypatch):
    """Creates a fictional run and its report in `tmp_path`, the working directory."""
    monkeypatch.chdir(tmp_path)

    def make(names=("cat", "dog", "emu"), params=None, **options):
        write_params(**(params or {}))
        run = FinishedRun(list(names), **options)
        assert exit_code("report", monkeypatch) == 0
        return run, paths.REPORT.read_text()

    return make


class Text(HTMLParser):
    """The text of each section, and all tags with their attributes."""

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


def test_headline_has_balanced_accuracy_if_classes_are_unequal(make_page):
    # 2, 1, 1 and 1 images, of which one of the first class is wrong: the recalls are
    # 1/2, 1, 1 and 1, and 4 of 5 images are right.
    _, page = make_page(names=[*"abcd"], count=5, wrong=1)
    text = Text(page).of("header")
    assert "test accuracy 0.8000" in text
    assert "balanced accuracy 0.8750 mean recall of the classes" in text


def test_headline_has_no_balanced_accuracy_up_to_one_and_a_half_times(make_page):
    _, page = make_page(names=("cat", "dog"), count=5, wrong=1)  # 3 and 2 images
    assert "balanced" not in Text(page).of("header")


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


def test_confused_classes_are_counted_most_frequent_first(make_page):
    run, page = make_page()
    wrong = run.labels != run.predicted
    pairs = [
        (run.names[label], run.names[answer])
        for label, answer in zip(run.labels[wrong], run.predicted[wrong], strict=True)
    ]
    text = Text(page).of("confusion")
    rows = [f"{' '.join(pair)} {count}" for pair, count in Counter(pairs).most_common()]
    assert text.endswith(f"actual predicted images {' '.join(rows)}")


def test_calibration_has_the_error_of_the_metrics(make_page):
    run, page = make_page()
    text = Text(page).of("calibration")
    assert f"error: {run.scores['calibration_error']:.4f} ," in text
    assert "15 bins" in text


def test_calibration_says_how_answers_are_made_only_where_it_was_chosen(
    make_page, monkeypatch
):
    _, page = make_page(names=("cat", "dog"))
    quiet = Text(page).of("calibration")
    for word in ("divided", "answer is", "unsure"):
        assert word not in quiet

    details = json.loads((paths.DETAILS / "train.json").read_text())
    details["calibration"] = {
        "temperature": 1.25,
        "calibration_error_before": 0.05,
        "calibration_error_after": 0.01,
    }
    write_metrics(paths.DETAILS / "train.json", details)
    details = json.loads((paths.DETAILS / "test.json").read_text())
    details["test"] |= {"threshold": 0.31, "reject_below": 0.8, "coverage": 0.925}
    details["test"]["answered_accuracy"] = 0.99
    write_metrics(paths.DETAILS / "test.json", details)
    assert exit_code("report", monkeypatch) == 0
    text = Text(paths.REPORT.read_text()).of("calibration")
    assert "divided the logits by 1.250; on validation" in text
    assert "from 0.0500 to 0.0100." in text
    assert "The answer is dog from a probability of 0.31 on" in text
    assert "answers 92.5 % of the test images, with accuracy 0.9900" in text
    details["test"] |= {"coverage": 0.0}
    del details["test"]["answered_accuracy"]
    write_metrics(paths.DETAILS / "test.json", details)
    assert exit_code("report", monkeypatch) == 0
    text = Text(paths.REPORT.read_text()).of("calibration")
    assert "answers 0.0 % of the test images, and is unsure" in text


def test_curves_over_all_thresholds_are_folded_away(make_page):
    run, page = make_page()
    text = Text(page)
    area = f"mean area under ROC {run.scores['roc_auc']:.4f}"
    assert area in text.of("calibration")
    assert [tag for tag, _ in text.tags].count("details") == 1
    assert "open" not in dict(text.tags)["details"]


def test_plots_are_embedded_with_a_description(make_page):
    run, page = make_page()
    images = [of for tag, of in Text(page).tags if tag == "img"]
    shown = [base64.b64decode(of["src"].split("base64,")[1]) for of in images]
    assert shown == list(run.plots.values())
    assert all(len(of["alt"]) > 15 for of in images)


def test_mistakes_are_counted(make_page):
    _, page = make_page()
    assert "misclassified 5 of 40 test images" in Text(page).of("mistakes")


def named_files(count=40):
    return [f"test/class {row % 3}/IMG_{row:04}.jpg" for row in range(count)]


def test_mistakes_name_their_files_most_confident_first(make_page):
    run, page = make_page(files=named_files())
    wrong = sorted(range(5), key=lambda row: -run.confidence[row])
    rows = [
        f"{row} {run.files[row]} {run.names[run.labels[row]]} "
        f"{run.names[run.predicted[row]]} {run.confidence[row]:.4f}"
        for row in wrong
    ]
    text = Text(page).of("mistakes")
    assert text.endswith(f"index file actual predicted confidence {' '.join(rows)}")


def test_confused_classes_name_up_to_three_files(make_page):
    run, page = make_page(names=("cat", "dog"), wrong=9, files=named_files())
    wrong = [row for row in range(9) if run.labels[row] == 0]
    wrong.sort(key=lambda row: -run.confidence[row])
    files = " ".join(run.files[row] for row in wrong[:3])
    text = Text(page).of("confusion")
    assert f"cat dog {len(wrong)} {files} dog cat " in text


def test_page_of_arrays_has_no_column_for_files(make_page):
    _, page = make_page()
    heads = [tag for tag, _ in Text(page).tags].count("th")
    _, named = make_page(files=named_files())
    assert [tag for tag, _ in Text(named).tags].count("th") == heads + 1 + 5
    assert "IMG_" not in page


def test_long_file_name_keeps_its_end(make_page):
    files = [f"test/{'a long folder/' * 5}IMG_{row:04}.jpg" for row in range(40)]
    _, page = make_page(files=files)
    found = re.findall(r"<td>(\.\.\.[^<]*IMG_0000\.jpg)</td>", page)
    assert {len(name) for name in found} == {48}


def test_export_table_has_the_measurements_of_each_format(make_page):
    _, page = make_page()
    text = Text(page).of("exports")
    assert "accuracy changed predictions max difference mean difference bytes" in text
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
    assert "nan" not in re.findall(r"[\w.]+", re.sub('base64,[^"]+', "", page))
    assert page.count("data:image/png") == (7 if wrong else 3)
    assert ("None: all 6 test images" in text.of("mistakes")) == (wrong == 0)
    assert ("details/test.json lists 30 more" in text.of("classes")) == (
        len(names) == 130
    )


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
    "models/model.json",
    "models/export/manifest.json",
    *(f"metrics/{name}.json" for name in ("prepare", "train", "test")),
    *(f"metrics/details/{name}.json" for name in ("prepare", "train", "test")),
    "metrics/details/export.json",
    "metrics/plots/predictions.csv",
    *(f"metrics/plots/{name}.png" for name in TEST_PLOTS),
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


def framed(page, folder):
    """A page with the report in a frame as wide as a phone."""
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
    """Renders a report in a frame 390 pixels wide and returns what LOOK measures."""

    def looked(**options):
        _, page = make_page(**options)
        return evaluate(framed(page, tmp_path), LOOK, tmp_path)

    return looked


def test_hostile_names_are_escaped_and_never_run(look):
    seen = look(names=HOSTILE, params={"data_path": "'<script>alert(2)</script>'"})
    assert seen["names"] == HOSTILE
    assert (seen["scripts"], seen["handlers"]) == (0, 0)
    assert seen["pictures"]


def test_hostile_file_names_are_escaped(make_page):
    hostile = ["<img src=x onerror=alert(1)>.png", "a\u202egnp.exe", "a\nb\x1b[2J.png"]
    _, page = make_page(wrong=3, files=hostile + ["x.png"] * 37)
    text = Text(page)
    for shown in (hostile[0], r"a\u202egnp.exe", r"a\nb\x1b[2J.png"):
        assert shown in text.of("mistakes")
    assert "\u202e" not in page
    assert not [of for tag, of in text.tags if "onerror" in of or tag == "script"]


def test_page_makes_no_requests(look):
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
    files = [f"test/{'unbroken' * 20}{row}.jpg" for row in range(150)]
    seen = look(names=names, count=150, files=files)
    assert seen["width"] == 390
    assert seen["needed"] <= 390


@pytest.mark.slow
def test_page_prints_on_a_few_sheets(make_page, tmp_path):
    make_page()
    print_to_pdf(tmp_path / paths.REPORT, tmp_path / "report.pdf", tmp_path)
    sheets = re.findall(rb"/Type /Page\b", (tmp_path / "report.pdf").read_bytes())
    assert 3 <= len(sheets) <= 8


def test_report_does_not_wait_for_the_large_libraries():
    code = (
        "import sys, stages.report, src.results.read;"
        "import src.reporting.page;"
        "print({'jax', 'tensorflow', 'matplotlib'} & set(sys.modules))"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.check_output(run, cwd=ROOT, text=True) == "set()\n"
