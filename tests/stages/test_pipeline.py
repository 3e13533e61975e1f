"""DVC commands in a temporary clone of the repository."""

import json
import os
import signal

import pytest

from src.config.load import load_params
from src.results.read import TEST_PLOTS
from tests.helpers.clone import Clone

pytestmark = pytest.mark.slow  # runs DVC and every stage in processes

METRICS = ("prepare", "train", "test", "export")
# The rows of `dvc metrics diff`; export.json adds one where a format differs.
HEADLINES = {
    "metrics/train.json": {
        "best_epoch",
        *("train.loss", "train.accuracy"),
        *("validation.loss", "validation.accuracy", "validation.f1"),
    },
    "metrics/test.json": {
        *("test.loss", "test.accuracy", "test.precision", "test.recall", "test.f1"),
        "test.calibration_error",
    },
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    clone = Clone(tmp_path_factory.mktemp("clone"))
    clone.run("dvc", "repro")
    clone.commit("Run")
    return clone


@pytest.fixture(autouse=True)
def as_committed(clone):
    """Each test finds, and the next one gets, the committed run."""
    yield
    if clone.run("git", "status", "--porcelain"):
        restore(clone)


def restore(clone):
    clone.run("git", "checkout", "--quiet", "--", ".")
    clone.run("dvc", "checkout", "--quiet", "--force")


def test_pipeline_leaves_every_file_of_the_contract(clone):
    for name in METRICS:
        assert clone.metrics(name)
        assert clone.metrics(f"details/{name}")
    for name in ("train.npz", "validation.npz", "test.npz", "manifest.json"):
        assert clone.bytes(f"data/prepared/{name}")
    for name in ("model.safetensors", "model.json", "export/manifest.json"):
        assert clone.bytes(f"models/{name}")
    for name in ("history", "steps", "predictions"):
        assert clone.bytes(f"metrics/plots/{name}.csv")
    for name in TEST_PLOTS:
        assert clone.bytes(f"metrics/plots/{name}.png").startswith(b"\x89PNG")
    assert clone.bytes("metrics/report.html").startswith(b"<!DOCTYPE html>")


def test_test_metrics_have_the_names_of_the_contract(clone):
    scores = clone.metrics("test")["test"]
    assert {"loss", "accuracy", "precision", "recall", "f1"} <= scores.keys()


def test_prepare_metrics_are_the_sizes_of_the_splits(clone):
    sizes = {"train": 1299, "validation": 143, "test": 355}
    expected = {name: {"examples": size} for name, size in sizes.items()}
    assert clone.metrics("prepare") == expected


def test_metrics_that_dvc_shows_are_the_headlines(clone):
    files = json.loads(clone.run("dvc", "metrics", "show", "--json"))[""]["data"]
    shown = {path: set(dotted(file["data"])) for path, file in files.items()}
    assert shown == {**HEADLINES, "metrics/export.json": set()}
    assert sum(map(len, shown.values())) <= 15


def dotted(metrics, prefix=""):
    for key, value in metrics.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_format_with_the_accuracy_of_the_network_is_no_headline(clone):
    accuracy = clone.metrics("test")["test"]["accuracy"]
    measured = clone.metrics("details/export")["export"]
    assert {each["accuracy"] for each in measured.values()} == {accuracy}
    assert clone.metrics("export") == {"export": {}}


def test_every_test_image_has_its_prediction(clone):
    rows = clone.bytes("metrics/plots/predictions.csv").decode().splitlines()
    shares = [f"p_{digit}" for digit in range(10)]
    assert rows[0].split(",") == [
        *("index", "actual", "predicted", "confidence", "file"),
        *shares,
    ]
    cells = [row.split(",") for row in rows[1:]]
    assert [int(row[0]) for row in cells] == list(range(355))
    assert {row[4] for row in cells} == {""}
    right = sum(actual == predicted for _, actual, predicted, *_ in cells)
    assert right / 355 == pytest.approx(
        clone.metrics("test")["test"]["accuracy"], abs=1e-6
    )


def test_history_has_a_row_for_each_epoch(clone):
    rows = clone.bytes("metrics/plots/history.csv").decode().splitlines()
    assert rows[0] == (
        "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,"
        "validation_balanced_accuracy,validation_precision,validation_recall,validation_f1,validation_top_k,lr"
    )
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2"]


def test_nothing_runs_when_nothing_changed(clone):
    assert "Data and pipelines are up to date." in clone.run("dvc", "repro")
    assert clone.run("git", "status", "--porcelain") == ""


def test_experiment_reruns_dependent_stages_and_shows_the_changes(
    clone,
):
    output = clone.run("dvc", "exp", "run", "-S", "lr=3e-4", "evaluate")
    assert "Stage 'prepare' didn't change, skipping" in output
    assert "Running stage 'train'" in output
    changed = json.loads(clone.run("dvc", "params", "diff", "--json"))
    assert changed["params.yaml"].keys() == {"lr"}
    assert changed["params.yaml"]["lr"]["new"] == 0.0003
    moved = json.loads(clone.run("dvc", "metrics", "diff", "--json"))
    assert moved["metrics/test.json"]["test.loss"]["diff"] != 0
    for path, rows in moved.items():
        assert set(rows) <= HEADLINES[path]
    assert "0.0003" in clone.run("dvc", "exp", "show", "--csv")


def test_numbers_written_by_dvc_are_read_as_floats(clone):
    clone.run("dvc", "exp", "run", "-S", "lr=1e-5", "-S", "weight_decay=1", "check")
    params = load_params(clone.folder / "params.yaml")
    assert (params.lr, params.weight_decay) == (1e-5, 1.0)
    assert isinstance(params.lr, float)
    assert isinstance(params.weight_decay, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("+lrr=1", "check: params.yaml: lrr: unknown key. Did you mean 'lr'?"),
        ("lr=", "check: params.yaml: lr: expected a number > 0, got ''."),
    ],
)
def test_wrong_parameter_stops_the_experiment_before_anything_ran(
    clone, change, message
):
    """Values that only DVC writes; test_bad_input has others."""
    output = clone.run("dvc", "exp", "run", "-S", change, code=255)
    assert message in output
    assert "Running stage 'train'" not in output


def test_parameters_never_reach_a_shell(clone):
    clone.run("dvc", "exp", "run", "-S", "model='mlp; touch canary'", code=255)
    assert not (clone.folder / "canary").exists()


def test_changed_image_folder_reruns_prepare(clone):
    (clone.folder / "data/raw/another.txt").write_text("more")
    assert "data/raw" in clone.run("dvc", "status", "prepare")
    (clone.folder / "data/raw/another.txt").unlink()


@pytest.fixture
def shared(clone, tmp_path):
    """The repository and a remote to which everything was pushed, as in README."""
    clone.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "remote"))
    clone.run("dvc", "push")
    clone.run("git", "commit", "--quiet", "--all", "--message", "Name a remote")
    yield clone
    clone.run("git", "reset", "--quiet", "--hard", "HEAD^")


def files_in(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "latency.json"  # DVC ignores it
    }


def test_pulled_run_is_bit_identical(shared, tmp_path):
    elsewhere = Clone.__new__(Clone)
    elsewhere.folder = tmp_path / "elsewhere"
    shared.run("git", "clone", "--quiet", ".", str(elsewhere.folder))
    assert not (elsewhere.folder / "models").exists()
    elsewhere.run("dvc", "pull")
    for name in ("models", "data/prepared", "metrics"):
        assert files_in(elsewhere.folder / name) == files_in(shared.folder / name)
    assert "up to date" in elsewhere.run("dvc", "status", "--with-deps", "report")


@pytest.mark.slow
def test_registered_version_is_downloaded_without_the_code(shared, tmp_path):
    shared.run("gto", "register", "classifier", "--version", "v1.0.0")
    assert "v1.0.0" in shared.run("gto", "show")
    address = str(shared.folder)
    version = ("--rev", "v1.0.0", "--out", str(tmp_path / "got"))
    shared.run("dvc", "artifacts", "get", address, "classifier", *version)
    expected = files_in(shared.folder / "models/export")
    assert files_in(tmp_path / "got") == expected
    shared.run("git", "tag", "--delete", "classifier@v1.0.0")


def test_plots_are_drawn_from_the_run(clone):
    output = clone.run("dvc", "plots", "show", "--json")
    plots = json.loads(output[output.index("{") :])
    assert {"loss", "accuracy", "confusion"} <= plots.get("data", plots).keys()


TRAIN = "stages/train.py"
LONG = {"model": "mlp", "hidden": 8, "epochs": 600, "batch_size": 64}


def started_until_epoch(clone, number, **variables):
    """`dvc repro`, in the midst of training."""
    process = clone.start("dvc", "repro", "train", **variables)
    for line in process.stdout:
        if line.startswith(f"epoch {number:>3}/"):
            return process
    raise AssertionError(f"no epoch {number}")


@pytest.fixture(scope="module")
def undisturbed(clone):
    """dvc.lock after an uninterrupted run."""
    clone.set(**LONG)
    clone.run("dvc", "repro", "--force", "train")
    lock = clone.bytes("dvc.lock")
    restore(clone)
    return lock


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "all_of_it", "shell"),
    [
        pytest.param(signal.SIGINT, True, "/bin/sh", id="Ctrl-C"),
        # dash is a process between DVC and the stage; bash is not.
        pytest.param(signal.SIGKILL, False, "/bin/sh", id="only dvc killed"),
        pytest.param(signal.SIGKILL, False, "/bin/bash", id="only dvc killed, bash"),
    ],
)
def test_interrupted_repro_resumes_when_restarted(
    clone, undisturbed, number, all_of_it, shell
):
    clone.set(**LONG)
    process = started_until_epoch(clone, 100, SHELL=shell)
    if all_of_it:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    output, _ = process.communicate(timeout=300)  # until the stage has ended too
    assert "epoch 600/600" not in output
    output = clone.run("dvc", "repro", "train")
    assert "resuming in epoch" in output
    assert clone.bytes("dvc.lock") == undisturbed


@pytest.mark.slow
def test_source_edited_before_the_fingerprint_ends_the_stage(clone):
    """A run of the old code must not be resumed under the fingerprint of the new."""
    clone.set(**LONG)
    source, stage = (clone.folder / name for name in ("src/training/losses.py", TRAIN))
    edit = 'open("src/training/losses.py", "a").write("# edited\\n")'
    text = stage.read_text()
    marked = text.replace(
        "    name = fingerprint", f"    {edit}\n    name = fingerprint"
    )
    stage.write_text(marked)
    clone.run("dvc", "repro", "prepare")
    output = clone.run("dvc", "repro", "train", code=255)
    assert "src/training: expected SHA-256 " in output
    assert "it was edited while the stage ran" in output
    assert "epoch" not in output
    assert source.read_text().endswith("# edited\n")


@pytest.mark.slow
def test_source_edited_during_training_is_not_recorded(clone):
    clone.set(**LONG)
    process = started_until_epoch(clone, 100)
    source = clone.folder / "src/training/losses.py"
    before, lock = source.read_text(), clone.bytes("dvc.lock")
    source.write_text(before + "# edited\n")
    output, _ = process.communicate(timeout=300)
    assert "src/training: expected SHA-256 " in output
    assert "it was edited while the stage ran" in output
    assert "exited with 3" in output
    assert clone.bytes("dvc.lock") == lock
    assert not (clone.folder / "models/model.safetensors").exists()
    source.write_text(before)
    assert "resuming in epoch" in clone.run("dvc", "repro", "train")
