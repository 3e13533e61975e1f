"""Applies the diffs of docs/how-to/extend.md to a copy of the project and trains."""

import csv
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import cohen_kappa_score

from src.evaluation import accumulators
from src.evaluation.metrics import confusion_matrix
from tests.helpers.imports import ROOT
from tests.helpers.pages import blocks
from tests.helpers.running import run_stage

PAGE = (ROOT / "docs/how-to/extend.md").read_text()
DIFFS = re.findall(r"^```diff\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COPIED = (
    "src",
    "stages",
    "tests",
    "benchmarks",
    "extra",
    "params",
    "pyproject",
    "dvc.",
)
PIPELINE = ("dvc.yaml", "extra/", "stages/", "params.yaml", "Makefile")


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A copy of the project with every diff of the page, in its order."""
    folder = tmp_path_factory.mktemp("extended")
    copy = folder / "copy"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True)
    for name in files.stdout.splitlines():
        if name.startswith(COPIED) and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    for diff in DIFFS:
        subprocess.run(
            ["git", "apply", "-"],
            cwd=copy,
            input=diff,
            check=True,
            text=True,
            env={"GIT_CEILING_DIRECTORIES": str(folder), "PATH": "/usr/bin:/bin"},
        )
    return copy


def test_page_has_a_diff_for_metric_loss_augmentation_layer_and_model():
    sections = re.findall(r"^## (.*?)$\n(.*?)(?=^## |\Z)", PAGE, re.M | re.DOTALL)
    with_diff = [title for title, text in sections if "```diff" in text]
    assert with_diff == [
        "A metric",
        "A loss",
        "An augmentation",
        "A layer",
        "A model",
    ]
    assert len(DIFFS) == len(with_diff)


def test_diffs_of_the_page_touch_no_pipeline_file():
    touched = re.findall(r"^\+\+\+ b/(.*)$", "".join(DIFFS), re.MULTILINE)
    assert touched
    assert not [name for name in touched if name.startswith(PIPELINE)]
    assert all(name.startswith("src/") for name in touched)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "linear"])
def test_diffs_of_the_page_train_and_evaluate(changed, prepared, write_params, model):
    write_params(
        model=model,
        epochs=2,
        batch_size=16,
        augment="[noise]",
        monitor="validation_kappa",
    )
    result = run_stage("train", prepared, PYTHONPATH=str(changed))
    assert result.returncode == 0, result.stderr
    rows = list(
        csv.DictReader(
            (prepared / "metrics/plots/history.csv").read_text().splitlines()
        )
    )
    kappas = [float(row["validation_kappa"]) for row in rows]
    assert len(kappas) == 2
    assert all(-1 <= kappa <= 1 for kappa in kappas)
    weights = load_file(prepared / "models/model.safetensors")
    expected = ["output.bias", "output.kernel"]
    if model == "mlp":
        expected += ["dense.bias", "dense.kernel", "norm.bias", "norm.scale"]
    assert sorted(weights) == sorted(expected)
    assert run_stage("evaluate", prepared, PYTHONPATH=str(changed)).returncode == 0


def test_metric_of_the_page_matches_scikit_learn(changed):
    space: dict[str, object] = {}
    exec((changed / "src/evaluation/metrics.py").read_text(), space)
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, (2, 200))
    found = space["cohen_kappa"](confusion_matrix(labels, predicted, 4))
    assert found == pytest.approx(cohen_kappa_score(labels, predicted))


def test_score_of_the_page_with_sums_of_its_own_matches_numpy():
    (source,) = blocks(ROOT / "docs/how-to/extend.md", "python")
    space = vars(accumulators).copy()
    exec(source, space)
    brier, rng = space["Brier"](), np.random.default_rng(0)
    logits = rng.normal(size=(8, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 8)
    mask = np.arange(8) < 6  # the last two are padding
    brier.update(logits=jnp.array(logits), labels=jnp.array(labels), mask=mask)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    errors = ((shares - np.eye(3)[labels]) ** 2).sum(1)
    assert float(brier.total[...]) == pytest.approx(errors[:6].sum(), rel=1e-5)


@pytest.mark.slow
def test_diffs_of_the_page_keep_the_import_law_and_dvc_yaml(changed):
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/project/test_structure.py",
        ],
        cwd=changed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
