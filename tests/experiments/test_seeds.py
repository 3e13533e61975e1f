"""Repeating a run over seeds: the statistics; no file of the current run changes."""

import json
import re
import sys

import numpy as np
import pytest
from scipy import stats

from src.experiments.seeds import summarize
from tests.helpers.imports import ROOT
from tests.helpers.running import exit_code


@pytest.mark.parametrize("count", [2, 5, 30])
def test_interval_equals_that_of_scipys_t_test(count):
    values = np.random.default_rng(count).normal(0.9, 0.01, count)
    found = summarize(values.tolist())
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(values.mean())
    assert found.standard_deviation == pytest.approx(values.std(ddof=1))


@pytest.mark.slow
def test_repeat_reports_every_seed_and_changes_no_other_file(
    write_params, tmp_path, monkeypatch, capsys
):
    changes = {"model": "mlp", "hidden": 16, "epochs": 1}
    changes["data_path"] = ROOT / "data/raw"
    monkeypatch.chdir(tmp_path)
    write_params(seed=4, **changes)
    for stage in ("prepare", "train", "evaluate"):
        assert exit_code(stage, monkeypatch) == 0
    alone = json.loads((tmp_path / "metrics/test.json").read_text())["test"]
    write_params(seed=3, **changes)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    monkeypatch.setattr(sys, "argv", ["repeat", "--seeds", "2"])
    capsys.readouterr()
    assert exit_code("repeat", monkeypatch) == 0

    line = r"^seed (\d): 355 images: accuracy (0\.\d{4})"
    found = dict(re.findall(line, capsys.readouterr().out, re.MULTILINE))
    assert found["4"] == f"{alone['accuracy']:.4f}" != found["3"]
    repeated = json.loads((tmp_path / "metrics/repeat.json").read_text())["repeat"]
    mean = (float(found["3"]) + float(found["4"])) / 2
    assert repeated["seeds"] == 2
    assert repeated["accuracy"]["mean"] == pytest.approx(mean, abs=1e-4)
    # Each class has test images, so both are the mean of the same recalls.
    assert repeated["balanced_accuracy"] == repeated["recall"] != repeated["accuracy"]
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("arguments", [["--seeds", "1"], ["--seeds", "x"], ["--what"]])
def test_wrong_arguments_end_with_code_two(
    write_params, tmp_path, monkeypatch, arguments
):
    write_params()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["repeat", *arguments])
    assert exit_code("repeat", monkeypatch) == 2
