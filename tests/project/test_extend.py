"""docs/extend.md: does what it says, in a copy of the project."""

import csv
import re
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import cohen_kappa_score

from src.evaluation.metrics import confusion_matrix
from tests.helpers.imports import ROOT
from tests.helpers.running import run_stage

PAGE = (ROOT / "docs/extend.md").read_text()
DIFFS = re.findall(r"^```diff\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def changed(tmp_path):
    """A copy of the project with every change of the page, in its order."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True)
    copy = tmp_path / "copy"
    for name in files.stdout.splitlines():
        if name.startswith(
            ("src", "stages", "tests", "benchmarks", "extra", "p", "dvc.y")
        ):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    for diff in DIFFS:
        subprocess.run(
            ["git", "apply", "-"],
            cwd=copy,
            input=diff,
            check=True,
            text=True,
            env={"GIT_CEILING_DIRECTORIES": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )
    return copy


def test_page_has_a_change_for_metric_loss_layer_and_model():
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert headings == ["A metric", "A loss", "A layer", "A model"]
    assert len(DIFFS) == 4


@pytest.mark.parametrize("model", ["mlp", "linear"])
def test_changes_of_the_page_train_and_report(changed, prepared, write_params, model):
    write_params(model=model, epochs=2, batch_size=16, monitor="validation_loss")
    text = (prepared / "params.yaml").read_text()
    (prepared / "params.yaml").write_text(
        text.replace("monitor: validation_loss", "monitor: validation_kappa")
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


def test_metric_of_the_page_is_that_of_scikit_learn(changed):
    space: dict[str, object] = {}
    exec((changed / "src/evaluation/metrics.py").read_text(), space)
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, (2, 200))
    found = space["cohen_kappa"](confusion_matrix(labels, predicted, 4))
    assert found == pytest.approx(cohen_kappa_score(labels, predicted))


def test_changes_of_the_page_keep_the_law_of_imports_and_of_dvc_yaml(changed):
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
